#!/bin/sh
# Uses the broker at PORT by Apache Kafka's own command-line tools: log-broker-kafka-tools.sh JARS PORT
#
# JARS is what log-kafka-install.sh made. Prints what worked, a word a line; what tools say of themselves goes to stderr.
set -eu
jars=$1 at="--bootstrap-server 127.0.0.1:$2"
work=$(mktemp -d)
trap '[ $? = 0 ] || cat "$work"/* >&2; rm -rf "$work"' EXIT
tool() { class=$1; shift; java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$jars/*" "$class" "$@" 2>>"$work/said"; }
failed() { echo "failed: $1" >&2; exit 1; }
has() { grep -q "$1" "$work/got" || failed "$1"; }

tool org.apache.kafka.tools.TopicCommand $at --create --topic t --partitions 3 >"$work/got"
tool org.apache.kafka.tools.TopicCommand $at --describe --topic t >"$work/got"
has 'PartitionCount: 3'
echo topics
seq 1 500 | tool org.apache.kafka.tools.ConsoleProducer $at --topic t >"$work/got"
# By the classic protocol, then by the next generation's.
for protocol in classic consumer; do
    tool org.apache.kafka.tools.consumer.ConsoleConsumer $at --topic t --group "$protocol" --from-beginning \
        --max-messages 500 --timeout-ms 20000 --command-property "group.protocol=$protocol" >"$work/got"
    [ "$(sort -n "$work/got" | uniq | wc -l)" = 500 ] || failed "$protocol"
done
tool org.apache.kafka.tools.consumer.group.ConsumerGroupCommand $at --describe --all-groups >"$work/got"
[ "$(awk '$2 == "t" { lag += $6; n++ } END { print n, lag }' "$work/got")" = "6 0" ] || failed "lag"
echo groups
tool org.apache.kafka.tools.VerifiableProducer $at --topic v --max-messages 50 >"$work/got"
[ "$(grep -c producer_send_success "$work/got")" = 50 ] || failed VerifiableProducer
echo verified
tool kafka.admin.ConfigCommand $at --alter --entity-type users --entity-name carol --add-config 'SCRAM-SHA-256=[password=secret]' >"$work/got"
tool kafka.admin.ConfigCommand $at --describe --entity-type users --entity-name carol >"$work/got"
has 'SCRAM-SHA-256=iterations=4096'
tool kafka.admin.ConfigCommand $at --alter --entity-type brokers --entity-default --add-config log.retention.ms=7000 >"$work/got"
tool kafka.admin.ConfigCommand $at --alter --entity-type brokers --entity-name 1 --add-config log.segment.bytes=9000 >"$work/got"
tool kafka.admin.ConfigCommand $at --describe --entity-type brokers --entity-default >"$work/got"
has 'log.retention.ms=7000 .*DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=7000'
tool kafka.admin.ConfigCommand $at --describe --all --entity-type topics --entity-name t >"$work/got"
has 'segment.bytes=9000 .*DYNAMIC_BROKER_CONFIG:log.segment.bytes=9000'
echo configs
tool org.apache.kafka.tools.AclCommand $at --add --allow-principal User:alice --operation Read --topic t >"$work/got"
tool org.apache.kafka.tools.AclCommand $at --list >"$work/got"
has 'principal=User:alice'
echo acls
