"""The protocol as bounded models in Promela, which spin checks exhaustively."""
