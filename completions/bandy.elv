# bandy: completion for elvish
eval (E:COMPLETE=elvish bandy | slurp)
