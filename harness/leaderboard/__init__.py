"""The leaderboard: `entries` reads, checks and makes them, `board` recomputes every number from their scores."""
