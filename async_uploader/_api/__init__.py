"""The service: endpoints, credentials, HTTP exchanges, the multipart body, and stall detection."""
