"""What surrounds every route: access, limits, the request's context, and error responses."""
