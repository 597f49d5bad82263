"""What a person sees: results on stdout, progress and errors on stderr. No decisions live here."""
