"""One upload from its container to the finished video; many uploads; uploads whose parts the caller cuts."""
