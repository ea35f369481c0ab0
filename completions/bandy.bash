# bandy: completion for bash
source <(COMPLETE=bash bandy)
