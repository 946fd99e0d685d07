"""The api.video endpoints: what they accept, what they do and what they return."""
