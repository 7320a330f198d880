use serde_json::Value;

use super::write::FilePlan;
use crate::plan::Plan;

impl Plan {
    /// The JSON Schema (draft 2020-12) of plan files, for editors and checks: what has this shape may still be refused, such
    /// as for two steps with one id, and tells why.
    ///
    /// ```
    /// use lunacore::Plan;
    ///
    /// assert_eq!(Plan::schema()["required"], serde_json::json!(["steps"]));
    /// ```
    #[must_use]
    pub fn schema() -> Value {
        let mut schema = schemars::schema_for!(FilePlan);
        schema.insert("title".to_owned(), Value::from("lunacore plan"));
        schema.to_value()
    }
}
