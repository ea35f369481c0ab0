#!/bin/sh
# Runs one node of Apache Kafka in KRaft mode: log-kafka-node.sh JARS DIR PORT CONTROLLER_PORT [NAME=VALUE...]
#
# JARS is what log-kafka-install.sh made; DIR is empty and the node's own. Settings after the ports go into server.properties.
# KAFKA_FORMAT are more words for the formatting of its storage: users, for one. The node runs in the foreground, in place
# of this shell.
set -euf
jars=$1 dir=$2 port=$3 controller=$4
shift 4
[ -n "$(find "$jars/" -maxdepth 1 -name "kafka_2.13-*.jar")" ] || { echo "$jars has no Kafka: tests/interop/log-kafka-install.sh $jars" >&2; exit 1; }
cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$dir/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=20000000
PROPERTIES
printf '%s\n' "$@" >>"$dir/server.properties"
java -cp "$jars/*" kafka.tools.StorageTool format -t 4L6g3nShT-eMCtK--X86sw -c "$dir/server.properties" ${KAFKA_FORMAT:-} >"$dir/format.log" 2>&1 ||
    { cat "$dir/format.log" >&2; exit 1; }
exec java -Xmx512m -cp "$jars/*" kafka.Kafka "$dir/server.properties" >"$dir/node.log" 2>&1
