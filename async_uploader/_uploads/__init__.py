"""One upload from its container to the finished video, many uploads at the same time, and upload sessions."""
