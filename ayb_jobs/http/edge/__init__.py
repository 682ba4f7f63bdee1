"""The edge that every request passes: server, connection, guard, authorization, problems."""
