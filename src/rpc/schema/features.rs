//! Language features that edition files import for the sake of code generators: known here, so that they compile.
//!
//! Names and numbers are those of the protobuf distribution; nothing but the declarations is repeated.

/// The text of a well-known file that the compiler does not have built in.
pub fn text(name: &str) -> Option<&'static str> {
    Some(match name {
        "google/protobuf/cpp_features.proto" => CPP,
        "google/protobuf/java_features.proto" => JAVA,
        "google/protobuf/go_features.proto" => GO,
        _ => return None,
    })
}

const CPP: &str = r#"syntax = "proto2";
package pb;
import "google/protobuf/descriptor.proto";
extend google.protobuf.FeatureSet { optional CppFeatures cpp = 1000; }
message CppFeatures {
  enum StringType { STRING_TYPE_UNKNOWN = 0; VIEW = 1; CORD = 2; STRING = 3; }
  optional bool legacy_closed_enum = 1;
  optional StringType string_type = 2;
  optional bool enum_name_uses_string_view = 3;
}
"#;

const JAVA: &str = r#"syntax = "proto2";
package pb;
import "google/protobuf/descriptor.proto";
option java_package = "com.google.protobuf";
option java_outer_classname = "JavaFeaturesProto";
extend google.protobuf.FeatureSet { optional JavaFeatures java = 1001; }
message JavaFeatures {
  enum Utf8Validation { UTF8_VALIDATION_UNKNOWN = 0; DEFAULT = 1; VERIFY = 2; }
  message NestInFileClassFeature {
    enum NestInFileClass { NEST_IN_FILE_CLASS_UNKNOWN = 0; NO = 1; YES = 2; LEGACY = 3; }
  }
  optional bool legacy_closed_enum = 1;
  optional Utf8Validation utf8_validation = 2;
  optional bool large_enum = 3;
  optional bool use_old_outer_classname_default = 4;
  optional NestInFileClassFeature.NestInFileClass nest_in_file_class = 5;
}
"#;

const GO: &str = r#"syntax = "proto2";
package pb;
import "google/protobuf/descriptor.proto";
option go_package = "google.golang.org/protobuf/types/gofeaturespb";
extend google.protobuf.FeatureSet { optional GoFeatures go = 1002; }
message GoFeatures {
  enum APILevel { API_LEVEL_UNSPECIFIED = 0; API_OPEN = 1; API_HYBRID = 2; API_OPAQUE = 3; }
  enum StripEnumPrefix {
    STRIP_ENUM_PREFIX_UNSPECIFIED = 0;
    STRIP_ENUM_PREFIX_KEEP = 1;
    STRIP_ENUM_PREFIX_GENERATE_BOTH = 2;
    STRIP_ENUM_PREFIX_STRIP = 3;
  }
  optional bool legacy_unmarshal_json_enum = 1;
  optional APILevel api_level = 2;
  optional StripEnumPrefix strip_enum_prefix = 3;
}
"#;
