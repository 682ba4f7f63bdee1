"""The API's JSON: field names, shapes, instants; once, for HTTP and the command line."""
