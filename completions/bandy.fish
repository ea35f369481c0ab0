# bandy: completion for fish
COMPLETE=fish bandy | source
