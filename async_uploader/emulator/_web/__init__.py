"""The emulator's web page, and the files of finished videos."""
