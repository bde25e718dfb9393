"""`/ws`: live audio in the service's own protocol."""
