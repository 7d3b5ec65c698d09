//! Compiles `proto/` with protox (no protoc needed): Rust stubs for our own
//! package, the whole descriptor set, custom options included, and for what
//! agents see a walk over its texts and times, so that no field is forgotten
//! where all of them have to be checked, and its fields as ProtoJSON has them.

use std::fmt::Write as _;
use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut protos: Vec<PathBuf> = Vec::new();
    for folder in ["proto/assettrack/v1", "proto/google/rpc"] {
        for entry in fs::read_dir(folder)? {
            protos.push(entry?.path());
        }
    }
    protos.sort();

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(&protos)?;
    // The encoded form keeps the custom options, which prost_types drops.
    let encoded = compiler.encode_file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), &encoded)?;

    let mut set = prost_types::FileDescriptorSet::decode(encoded.as_slice())?;
    set.file.retain(|file| matches!(file.package(), "assettrack.v1" | "google.protobuf"));
    fs::write(out.join("walk.rs"), walk(&set)?)?;
    fs::write(out.join("json.rs"), json(&set)?)?;
    tonic_prost_build::configure().out_dir(&out).compile_fds(set)?;
    Ok(())
}

const DETAILS: &str = "assettrack/v1/details.proto";
const TIMESTAMP: &str = ".google.protobuf.Timestamp";

/// Implements `Walk` for each message of details.proto.
fn walk(set: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let file = set.file.iter().find(|file| file.name() == DETAILS).ok_or("no details.proto")?;
    let mut code = String::new();
    for message in &file.message_type {
        writeln!(code, "impl Walk for v1::{} {{", message.name())?;
        writeln!(code, "    #[allow(unused_variables)]\n    fn walk(&mut self, walker: &mut dyn Walker) {{")?;
        let has_kinds = message.name() == "AssetDetails";
        if has_kinds {
            writeln!(code, "        if let Some(details) = &mut self.details {{ details.walk(walker); }}")?;
        }
        write_fields(&mut code, message)?;
        writeln!(code, "    }}\n")?;
        write_times(&mut code, message, has_kinds)?;
        writeln!(code, "}}\n")?;
        if has_kinds {
            writeln!(code, "impl Walk for v1::asset_details::Details {{")?;
            writeln!(code, "    fn walk(&mut self, walker: &mut dyn Walker) {{\n        match self {{")?;
            for field in message.field.iter().filter(|field| field.oneof_index.is_some()) {
                let variant = field.type_name().rsplit('.').next().unwrap_or_default();
                let variant = variant.trim_end_matches("Details");
                writeln!(code, "            Self::{variant}(details) => details.walk(walker),")?;
            }
            writeln!(code, "        }}\n    }}\n")?;
            writeln!(
                code,
                "    fn times(&self, see: &mut dyn FnMut(&'static str, &prost_types::Timestamp)) {{"
            )?;
            writeln!(code, "        match self {{")?;
            for field in message.field.iter().filter(|field| field.oneof_index.is_some()) {
                let variant = field.type_name().rsplit('.').next().unwrap_or_default();
                let variant = variant.trim_end_matches("Details");
                writeln!(code, "            Self::{variant}(details) => details.times(see),")?;
            }
            writeln!(code, "        }}\n    }}\n}}\n")?;
        }
    }
    Ok(code)
}

fn write_fields(code: &mut String, message: &DescriptorProto) -> Result<(), Box<dyn Error>> {
    for field in &message.field {
        if field.oneof_index.is_some() && !field.proto3_optional() {
            continue;
        }
        let name = if field.name() == "type" { "r#type" } else { field.name() };
        let repeated = field.label() == Label::Repeated;
        match field.r#type() {
            Type::String if repeated => writeln!(code, "        walker.texts(&mut self.{name});")?,
            Type::String if field.proto3_optional() => {
                return Err(format!("{}.{name}: optional texts are not provided for", message.name()).into());
            }
            Type::String => writeln!(code, "        walker.text(&mut self.{name});")?,
            Type::Message if field.type_name() == TIMESTAMP && !repeated => {}
            Type::Message if repeated => {
                writeln!(code, "        let most = walker.longest_list(self.{name}.len());")?;
                writeln!(code, "        self.{name}.truncate(most);")?;
                writeln!(code, "        for one in &mut self.{name} {{ one.walk(walker); }}")?;
            }
            Type::Message | Type::Bytes | Type::Group => {
                return Err(format!("{}.{name}: its type is not provided for", message.name()).into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Times of a message and of those in it.
fn write_times(code: &mut String, message: &DescriptorProto, has_kinds: bool) -> Result<(), Box<dyn Error>> {
    writeln!(code, "    #[allow(unused_variables)]")?;
    writeln!(code, "    fn times(&self, see: &mut dyn FnMut(&'static str, &prost_types::Timestamp)) {{")?;
    if has_kinds {
        writeln!(code, "        if let Some(details) = &self.details {{ details.times(see); }}")?;
    }
    for field in message.field.iter().filter(|field| field.r#type() == Type::Message) {
        let name = field.name();
        if field.oneof_index.is_some() {
            continue;
        }
        if field.label() == Label::Repeated {
            writeln!(code, "        for one in &self.{name} {{ one.times(see); }}")?;
        } else if field.type_name() == TIMESTAMP {
            writeln!(code, "        if let Some(time) = &self.{name} {{ see(\"{name}\", time); }}")?;
        }
    }
    writeln!(code, "    }}")?;
    Ok(())
}

/// Implements `WriteJson` for each message of details.proto.
fn json(set: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let file = set.file.iter().find(|file| file.name() == DETAILS).ok_or("no details.proto")?;
    let mut code = String::new();
    for message in &file.message_type {
        writeln!(code, "impl WriteJson for v1::{} {{", message.name())?;
        writeln!(
            code,
            "    #[allow(unused_variables)]\n    fn fields(&self, object: &mut dyn JsonObject) {{"
        )?;
        let has_kinds = message.name() == "AssetDetails";
        if has_kinds {
            writeln!(code, "        use v1::asset_details::Details;")?;
            writeln!(code, "        match &self.details {{\n            None => {{}}")?;
            for field in message.field.iter().filter(|field| field.oneof_index.is_some()) {
                let variant = field.type_name().rsplit('.').next().unwrap_or_default();
                let (variant, name) = (variant.trim_end_matches("Details"), both_names(field));
                writeln!(
                    code,
                    "            Some(Details::{variant}(details)) => object.message({name}, details),"
                )?;
            }
            writeln!(code, "        }}")?;
        }
        for field in &message.field {
            if field.oneof_index.is_none() || field.proto3_optional() {
                write_json_field(&mut code, message, field)?;
            }
        }
        writeln!(code, "    }}\n}}\n")?;
    }
    Ok(code)
}

fn write_json_field(
    code: &mut String,
    message: &DescriptorProto,
    field: &prost_types::FieldDescriptorProto,
) -> Result<(), Box<dyn Error>> {
    let name = if field.name() == "type" { "r#type" } else { field.name() };
    let names = both_names(field);
    let repeated = field.label() == Label::Repeated;
    let call = match field.r#type() {
        Type::String if repeated => format!("object.texts({names}, &self.{name});"),
        Type::String => format!("object.text({names}, &self.{name});"),
        Type::Bool if !repeated => format!("object.flag({names}, self.{name});"),
        Type::Uint32 | Type::Int32 if repeated => format!("object.numbers({names}, &self.{name});"),
        Type::Uint32 | Type::Int32 if field.proto3_optional() => {
            format!("if let Some(number) = self.{name} {{ object.number({names}, i64::from(number)); }}")
        }
        Type::Uint32 | Type::Int32 => {
            format!("if self.{name} != 0 {{ object.number({names}, i64::from(self.{name})); }}")
        }
        Type::Uint64 if !repeated => format!("object.long({names}, self.{name});"),
        Type::Enum if !repeated => {
            let of = field.type_name().rsplit('.').next().unwrap_or_default();
            format!(
                "object.word({names}, self.{name}, v1::{of}::try_from(self.{name}).ok().map(|of| of.as_str_name()));"
            )
        }
        Type::Message if field.type_name() == TIMESTAMP && !repeated => {
            format!("if let Some(time) = &self.{name} {{ object.time({names}, time); }}")
        }
        Type::Message if repeated => {
            format!("object.messages({names}, &mut self.{name}.iter().map(|one| one as &dyn WriteJson));")
        }
        _ => return Err(format!("{}.{name}: its type is not provided for", message.name()).into()),
    };
    writeln!(code, "        {call}")?;
    Ok(())
}

/// A field's name in ProtoJSON, and in the contracts.
fn both_names(field: &prost_types::FieldDescriptorProto) -> String {
    format!("Name {{ json: \"{}\", proto: \"{}\" }}", field.json_name(), field.name())
}
