//! The command line itself: help, errors, exit codes, pipes.

use crate::support::{Home, bandy};

#[test]
fn version_is_one_line() {
    bandy("--version").runs().prints(concat!("bandy ", env!("CARGO_PKG_VERSION"), "\n")).silently();
}

#[test]
fn an_unknown_format_is_bad_usage_with_the_nearest_word() {
    bandy("context ls -o jsno").runs().exits(2).complains("tip: did you mean 'json'?");
}

#[test]
fn contexts_are_added_used_shown_and_removed() {
    let home = Home::new();
    let run = |words: &str| bandy(words).home(&home).runs();
    run("context add prod --rpc grpcs://bob:secret@api.example.org --log kafka://k1,k2 --use")
        .prints("")
        .silently();
    run("context add dev --rpc :5000").prints("");
    run("context ls").prints(
        "dev\tfalse\t:5000\t\t\t\t\nprod\ttrue\tgrpcs://bob:***@api.example.org\t\tkafka://k1,k2\t\t\n",
    );
    run("context ls -o table").prints(
        "NAME  CURRENT  RPC                              MQ  LOG            GOSSIP  USER\n\
         dev            :5000\n\
         prod  *        grpcs://bob:***@api.example.org      kafka://k1,k2\n",
    );
    run("context use dev").prints("");
    run("context show").prints("rpc\t:5000\n");
    run("context use -").prints("");
    run("context show -o json")
        .prints("{\"rpc\":\"grpcs://bob:***@api.example.org\",\"log\":\"kafka://k1,k2\"}\n");
    run("context rm prod").prints("");
    run("context show").exits(5).complains("no context is the current one");
    run("context use pord").exits(5).complains("no context 'pord'");
    run("context show dve").exits(5).complains("tip: did you mean 'dev'?");
}

#[test]
fn a_context_without_a_usable_endpoint_is_refused() {
    bandy("context add x --rpc kafka://h").runs().exits(2).complains("kafka:// is a log endpoint");
    bandy("context add x").runs().exits(2).complains("tip: bandy context add x --rpc");
    bandy("context add local --rpc :1").runs().exits(2);
}
