"""The client: channels and presences of a roost, Phoenix or Supabase server, in asyncio."""
