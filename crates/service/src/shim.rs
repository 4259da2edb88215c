//! shim
pub(crate) mod payload {
    use serde_json::{Map, Value};
    pub(crate) enum Addressee { Token, Topic }
    pub(crate) struct FieldProblem { pub(crate) field: String, pub(crate) problem: String }
    pub(crate) fn build(fcm: &Map<String, Value>, _to: Addressee) -> Result<Vec<u8>, FieldProblem> {
        if fcm.contains_key("bad") { return Err(FieldProblem{field: "bad".into(), problem: "bad".into()}); }
        Ok(serde_json::to_vec(fcm).unwrap_or_default())
    }
}
