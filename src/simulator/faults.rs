//! Faults to order: the next calls to a path fail as told.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// One ordered fault. Members can stand together: slow and 503, for instance.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    path: String,
    pub(crate) errcode: Option<i64>,
    pub(crate) status: Option<u16>,
    pub(crate) body: Option<String>,
    pub(crate) delay: Duration,
    times: u64,
}

/// All faults that are left.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Fault {
    /// Reads `{"path","errcode"|"status"|"delay_ms"|"body","times"}`; without `times`, once.
    ///
    /// # Errors
    ///
    /// A sentence that names the member which is missing, unknown or of a wrong form.
    pub(crate) fn parse(members: &Map<String, Value>) -> Result<Self, String> {
        let mut fault = Self {
            path: String::new(),
            errcode: None,
            status: None,
            body: None,
            delay: Duration::ZERO,
            times: 1,
        };
        for (name, value) in members {
            let wrong = || format!("{name}: of a wrong form");
            match name.as_str() {
                "path" => fault.path = value.as_str().ok_or_else(wrong)?.to_owned(),
                "errcode" => fault.errcode = Some(value.as_i64().ok_or_else(wrong)?),
                "status" => {
                    let status = value.as_u64().and_then(|status| u16::try_from(status).ok());
                    let status = status.filter(|status| (200..600).contains(status));
                    fault.status = Some(status.ok_or_else(wrong)?);
                }
                "body" => fault.body = Some(value.as_str().ok_or_else(wrong)?.to_owned()),
                "delay_ms" => {
                    fault.delay = Duration::from_millis(value.as_u64().ok_or_else(wrong)?);
                }
                "times" => fault.times = value.as_u64().ok_or_else(wrong)?,
                _ => return Err(format!("{name}: no such member")),
            }
        }
        if !fault.path.starts_with('/') {
            return Err("path: expected a path such as /cgi-bin/token".to_owned());
        }
        if !fault.answers() && fault.delay.is_zero() {
            return Err("expected one of errcode, status, delay_ms, body".to_owned());
        }
        Ok(fault)
    }

    /// Whether it takes the place of the real answer, not only delays it.
    pub(crate) fn answers(&self) -> bool {
        self.errcode.is_some() || self.status.is_some() || self.body.is_some()
    }
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The oldest fault for this path, used once.
    pub(crate) fn take(&mut self, path: &str) -> Option<Fault> {
        let fault = self
            .0
            .iter_mut()
            .find(|fault| fault.path == path && fault.times > 0)?;
        fault.times -= 1;
        let fault = fault.clone();
        self.0.retain(|fault| fault.times > 0);
        Some(fault)
    }

    pub(crate) fn to_json(&self) -> Value {
        let one = |fault: &Fault| {
            let mut members = Map::new();
            members.insert("path".to_owned(), json!(fault.path));
            members.insert("times".to_owned(), json!(fault.times));
            for (name, value) in [
                ("errcode", fault.errcode.map(|code| json!(code))),
                ("status", fault.status.map(|status| json!(status))),
                ("body", fault.body.as_ref().map(|body| json!(body))),
            ] {
                if let Some(value) = value {
                    members.insert(name.to_owned(), value);
                }
            }
            if !fault.delay.is_zero() {
                let delay = u64::try_from(fault.delay.as_millis()).unwrap_or(u64::MAX);
                members.insert("delay_ms".to_owned(), json!(delay));
            }
            Value::Object(members)
        };
        self.0.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(members: Value) -> Result<Fault, String> {
        Fault::parse(members.as_object().unwrap())
    }

    #[test]
    fn a_fault_is_used_up_and_touches_no_other_path() {
        let mut faults = Faults::default();
        faults.add(fault(json!({"path": "/a", "errcode": -1, "times": 2})).unwrap());
        assert!(faults.take("/b").is_none());
        assert_eq!(faults.take("/a").unwrap().errcode, Some(-1));
        assert_eq!(faults.to_json()[0]["times"], 1);
        assert!(faults.take("/a").is_some());
        assert!(faults.take("/a").is_none());
        assert_eq!(faults.to_json(), json!([]));
    }

    #[test]
    fn a_fault_that_would_do_nothing_is_refused() {
        assert!(fault(json!({"path": "/a"})).is_err());
        assert!(fault(json!({"path": "a", "status": 503})).is_err());
        assert!(fault(json!({"path": "/a", "status": 99})).is_err());
        assert!(fault(json!({"path": "/a", "statsu": 503})).is_err());
    }
}
