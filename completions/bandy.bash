# bandy: completion for bash
source <(COMPLETE=bash bandy)
_bandy() {
    local line=${COMP_LINE:0:COMP_POINT} words=() current=$2 kept
    if [[ $line != *[\'\"\\]* ]]; then
        IFS=$' \t\n' read -ra words <<<"$line"
        [[ $line == *' ' ]] && words+=('')
        current=${words[-1]}
        COMP_WORDS=("${words[@]}") COMP_CWORD=$((${#words[@]} - 1))
    fi
    _clap_complete_bandy "$1" "$current" "$3"
    kept=${current##*[:=]}
    if [[ $kept != "$current" && $COMP_WORDBREAKS == *[:=]* && ${#words[@]} -gt 0 ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${current%"$kept"}"}")
    fi
}
complete -o nospace -o bashdefault -o nosort -F _bandy bandy
