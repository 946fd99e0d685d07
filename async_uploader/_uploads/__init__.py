"""One upload from its container to the finished video, many uploads at once, and upload sessions."""
