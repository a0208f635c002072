"""Where shards are packed. An engine runs tasks and hands back each one's outcome, in any order."""
