"""Help for testing applications: rehearsals that start at once, and hosts that misbehave."""
