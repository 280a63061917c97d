"""Who owns a presence, and what becomes of it when the owner is gone."""
