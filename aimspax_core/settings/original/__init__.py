"""The keys of both generations of aims-PAX, and what they are called here."""
