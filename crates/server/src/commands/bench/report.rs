//! What was measured, as a table and as JSON.

use std::io::Write;

use serde_json::{Value, json};

use super::machine::Machine;

/// One number a round.
struct Measure {
    scenario: String,
    what: String,
    unit: String,
    rounds: Vec<f64>,
}

/// All measures, in the order in which they first came.
pub(super) struct Report {
    machine: Machine,
    began: i64,
    measures: Vec<Measure>,
    notes: Vec<String>,
}

impl Report {
    pub(super) fn new(machine: Machine) -> Self {
        let mut report = Self {
            machine,
            began: bugle_model::Clock::now(&bugle_model::SystemClock).as_secs(),
            measures: Vec::new(),
            notes: Vec::new(),
        };
        if cfg!(debug_assertions) {
            report.note("the benchmark itself is a debug build: the numbers say nothing");
        }
        if report.machine.file_system == "tmpfs" {
            report.note("the databases were in memory (tmpfs): no disk is that fast; name another directory by --dir");
        }
        report
    }

    /// Adds a round's number.
    pub(super) fn add(&mut self, scenario: &str, what: &str, unit: &str, value: f64) {
        let known = self
            .measures
            .iter_mut()
            .find(|measure| measure.scenario == scenario && measure.what == what);
        match known {
            Some(measure) => measure.rounds.push(value),
            None => self.measures.push(Measure {
                scenario: scenario.to_owned(),
                what: what.to_owned(),
                unit: unit.to_owned(),
                rounds: vec![value],
            }),
        }
    }

    /// What has to be known to understand the numbers.
    pub(super) fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    pub(super) fn head(&self) -> std::io::Result<()> {
        let Machine {
            cpu,
            cores,
            memory_mib,
            kernel,
            file_system,
            load,
        } = &self.machine;
        let mut out = std::io::stdout().lock();
        writeln!(out, "bugle {} ({} build)", env!("CARGO_PKG_VERSION"), profile())?;
        writeln!(
            out,
            "{cpu}, {cores} cores, {memory_mib} MiB, Linux {kernel}, {file_system}, load {load} at the start"
        )?;
        out.flush()
    }

    pub(super) fn table(&self) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        write!(out, "\n{}", self.text())?;
        out.flush()
    }

    fn text(&self) -> String {
        let width = self
            .measures
            .iter()
            .map(|measure| measure.what.chars().count())
            .max()
            .unwrap_or(0);
        let mut text = format!(
            "{:<12}  {:<width$}  {:>11}  {:>11}  {:>11}\n",
            "scenario", "measure", "median", "lowest", "highest"
        );
        let mut scenario = "";
        for measure in &self.measures {
            let shown = if measure.scenario == scenario {
                ""
            } else {
                &measure.scenario
            };
            scenario = &measure.scenario;
            let (low, middle, high) = spread(&measure.rounds);
            let line = format!(
                "{shown:<12}  {:<width$}  {:>11}  {:>11}  {:>11}  {}",
                measure.what,
                number(middle),
                number(low),
                number(high),
                measure.unit
            );
            text += line.trim_end();
            text.push('\n');
        }
        for note in &self.notes {
            text += "\nnote: ";
            text += note;
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let measures = self.measures.iter().map(|measure| {
            let (low, middle, high) = spread(&measure.rounds);
            json!({"scenario": measure.scenario, "measure": measure.what, "unit": measure.unit,
                "median": middle, "lowest": low, "highest": high, "rounds": measure.rounds})
        });
        json!({
            "bugle": env!("CARGO_PKG_VERSION"),
            "build": profile(),
            "began_at": self.began,
            "command": std::env::args().skip(1).collect::<Vec<_>>(),
            "machine": self.machine,
            "measures": measures.collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

fn profile() -> &'static str {
    if cfg!(debug_assertions) { "DEBUG" } else { "release" }
}

/// A share; 0 of nothing.
pub(super) fn ratio(of: f64, to: f64) -> f64 {
    if to > 0.0 { of / to } else { 0.0 }
}

/// Lowest, median, highest.
fn spread(rounds: &[f64]) -> (f64, f64, f64) {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |at: usize| sorted.get(at).copied().unwrap_or(0.0);
    let last = sorted.len().saturating_sub(1);
    (at(0), f64::midpoint(at(last / 2), at(last.div_ceil(2))), at(last))
}

/// With as many digits as mean something, thousands apart.
fn number(value: f64) -> String {
    if value.abs() < 10.0 && value.fract() != 0.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 1_000.0 && value.fract() != 0.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let (sign, digits) = digits
        .strip_prefix('-')
        .map_or(("", digits.as_str()), |digits| ("-", digits));
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            machine: Machine::look(std::path::Path::new("/")),
            began: 0,
            measures: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn numbers_are_short() {
        let all = [
            0.0,
            1.0,
            0.512,
            12.345,
            999.96,
            1_000.4,
            23_900.0,
            1_234_567.0,
            -1_234.0,
        ]
        .map(number);
        let expected = [
            "0",
            "1",
            "0.51",
            "12.3",
            "1000.0",
            "1 000",
            "23 900",
            "1 234 567",
            "-1 234",
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn the_median_is_not_the_mean() {
        assert_eq!(spread(&[9.0, 1.0, 2.0]), (1.0, 2.0, 9.0));
        assert_eq!(spread(&[1.0, 3.0, 100.0, 2.0]), (1.0, 2.5, 100.0));
        assert_eq!(spread(&[]), (0.0, 0.0, 0.0));
    }

    #[test]
    fn rounds_of_one_measure_come_together_in_table_and_json() {
        let mut report = report();
        for (round, value) in [3.0, 1.0, 2.0].into_iter().enumerate() {
            report.add("register", "single", "/s", value * 1_000.0);
            report.add("register", "batch", "", f64::from(u8::try_from(round).unwrap()));
        }
        report.note("so it is");
        let json = report.json();
        assert_eq!(json["measures"][0]["median"], 2_000.0);
        assert_eq!(json["measures"][0]["rounds"], json!([3_000.0, 1_000.0, 2_000.0]));
        let text = report.text();
        assert!(
            text.contains("register      single        2 000        1 000        3 000  /s\n"),
            "{text}"
        );
        assert!(text.ends_with("\nnote: so it is\n"), "{text}");
        assert_eq!(text.matches("register").count(), 1, "{text}");
    }
}
