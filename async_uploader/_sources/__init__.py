"""Where the bytes of an upload come from: files and streams."""
