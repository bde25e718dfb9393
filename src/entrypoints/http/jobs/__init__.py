"""Jobs over HTTP: a recording is taken now, and its text fetched later."""
