// Prints every message of the APIs given by number, in every version, as Kafka's own schemas write it: messages.txt.
//
//   java -cp kafka-clients-4.2.0.jar:slf4j-api.jar Messages.java 0 1 2 3 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 \
//       24 25 26 28 29 30 31 32 33 35 36 37 42 43 44 47 48 50 51 60 61 65 66 68 69 74 75
//
// Each message twice: with something in every field, then with nulls and empty arrays.
import java.nio.ByteBuffer;
import java.util.*;
import org.apache.kafka.common.message.*;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.*;
import org.apache.kafka.common.record.MemoryRecords;

public class Messages {
    static int number;
    static boolean full;

    static Object[] elements(Type element) {
        return full ? new Object[] {sample(element), sample(element)} : new Object[] {};
    }

    static Object sample(Type type) {
        number++;
        if (type.isNullable() && !full) return null;
        if (type instanceof Schema schema) return fill(schema);
        if (type instanceof ArrayOf array) return elements(array.arrayElementType().get());
        if (type instanceof CompactArrayOf array) return elements(array.arrayElementType().get());
        if (type instanceof TaggedFields tagged) {
            TreeMap<Integer, Object> values = new TreeMap<>();
            if (full) tagged.fields().forEach((tag, field) -> values.put(tag, sample(field.type)));
            return values;
        }
        if (type == Type.BOOLEAN) return full;
        if (type == Type.INT8) return (byte) (number % 50 + 1);
        if (type == Type.INT16) return (short) (number * 7 + 1);
        if (type == Type.UINT16) return number * 7 + 1;
        if (type == Type.INT32) return number * 70001 + 1;
        if (type == Type.UNSIGNED_INT32) return (long) (number * 70001 + 1);
        if (type == Type.INT64) return number * 7000000001L + 1;
        if (type == Type.FLOAT64) return number * 1.5;
        if (type == Type.UUID) return new org.apache.kafka.common.Uuid(number * 0x0102030405060708L, number + 5);
        String name = type.toString();
        if (name.contains("STRING")) return "s" + number;
        if (name.contains("BYTES")) return ByteBuffer.wrap(("b" + number).getBytes());
        if (name.contains("RECORDS")) return MemoryRecords.readableRecords(ByteBuffer.wrap(("r" + number).getBytes()));
        throw new IllegalArgumentException(name);
    }

    static Struct fill(Schema schema) {
        Struct struct = new Struct(schema);
        for (BoundField field : schema.fields()) struct.set(field, sample(field.def.type));
        return struct;
    }

    // Where a struct may be null, the schemas leave out the byte that says so: these are written by the messages themselves.
    static Message withNullableStruct(String name, String direction) {
        switch (name + " " + direction) {
            case "ConsumerGroupHeartbeat response":
                var heartbeat = new ConsumerGroupHeartbeatResponseData().setThrottleTimeMs(1).setErrorCode((short) 2);
                heartbeat.setErrorMessage("s3").setMemberId("s4").setMemberEpoch(5).setHeartbeatIntervalMs(6);
                var topic = new ConsumerGroupHeartbeatResponseData.TopicPartitions();
                topic.setTopicId(new org.apache.kafka.common.Uuid(7, 8)).setPartitions(List.of(9, 10));
                var assignment = new ConsumerGroupHeartbeatResponseData.Assignment().setTopicPartitions(List.of(topic));
                return full ? heartbeat.setAssignment(assignment) : heartbeat;
            case "DescribeTopicPartitions request":
                var request = new DescribeTopicPartitionsRequestData().setResponsePartitionLimit(3);
                request.setTopics(List.of(new DescribeTopicPartitionsRequestData.TopicRequest().setName("s1")));
                var cursor = new DescribeTopicPartitionsRequestData.Cursor().setTopicName("s4").setPartitionIndex(5);
                return full ? request.setCursor(cursor) : request;
            case "DescribeTopicPartitions response":
                var response = new DescribeTopicPartitionsResponseData().setThrottleTimeMs(1);
                var next = new DescribeTopicPartitionsResponseData.Cursor().setTopicName("s4").setPartitionIndex(5);
                return full ? response.setNextCursor(next) : response;
            default:
                return null;
        }
    }

    static byte[] bytes(Message message, int version) {
        ByteBuffer buffer = MessageUtil.toByteBufferAccessor(message, (short) version).buffer();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return bytes;
    }

    static byte[] bytes(Schema schema) {
        number = 0;
        Struct struct = fill(schema);
        ByteBuffer buffer = ByteBuffer.allocate(struct.sizeOf());
        struct.writeTo(buffer);
        return buffer.array();
    }

    static void print(String name, String direction, int version, Schema schema) {
        Message message = withNullableStruct(name, direction);
        byte[] bytes = message == null ? bytes(schema) : bytes(message, version);
        System.out.println(name + " " + direction + " " + version + " " + HexFormat.of().formatHex(bytes));
    }

    public static void main(String[] keys) {
        for (ApiMessageType api : ApiMessageType.values()) {
            if (!Arrays.asList(keys).contains(Short.toString(api.apiKey()))) continue;
            for (int version = api.lowestSupportedVersion(); version <= api.highestSupportedVersion(true); version++) {
                for (boolean each : new boolean[] {true, false}) {
                    full = each;
                    print(api.name, "request", version, api.requestSchemas()[version]);
                    print(api.name, "response", version, api.responseSchemas()[version]);
                }
            }
        }
    }
}
