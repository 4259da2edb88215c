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

/// A number with its name and its unit.
pub(super) type Named = (String, &'static str, f64);

/// A round that does not count, because it says more about the machine than about bugle.
struct VoidRound {
    scenario: String,
    why: String,
    measures: Vec<Named>,
}

/// What is not one number: how something went on, point by point.
struct Series {
    scenario: String,
    what: String,
    /// Names of the two coordinates, with their units.
    axes: [&'static str; 2],
    points: Vec<(f64, f64)>,
}

/// All measures, in the order in which they first came.
pub(super) struct Report {
    machine: Machine,
    backends: &'static str,
    began: i64,
    measures: Vec<Measure>,
    void: Vec<VoidRound>,
    series: Vec<Series>,
    notes: Vec<String>,
}

impl Report {
    pub(super) fn new(machine: Machine, backends: &'static str) -> Self {
        let mut report = Self {
            machine,
            backends,
            began: bugle_model::Clock::now(&bugle_model::SystemClock).as_secs(),
            measures: Vec::new(),
            void: Vec::new(),
            series: Vec::new(),
            notes: Vec::new(),
        };
        report.note(&format!("registry and ledger in {backends}"));
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

    /// Adds a round's numbers.
    pub(super) fn add_all(&mut self, scenario: &str, round: Vec<Named>) {
        for (what, unit, value) in round {
            self.add(scenario, &what, unit, value);
        }
    }

    /// Keeps a round's numbers apart from those that count.
    pub(super) fn add_void(&mut self, scenario: &str, why: String, measures: Vec<Named>) {
        eprintln!("{scenario}: this round is void: {why}");
        self.void.push(VoidRound {
            scenario: scenario.to_owned(),
            why,
            measures,
        });
    }

    /// Adds how something went on; only the JSON has it.
    pub(super) fn add_series(&mut self, scenario: &str, what: &str, axes: [&'static str; 2], points: Vec<(f64, f64)>) {
        self.series.push(Series {
            scenario: scenario.to_owned(),
            what: what.to_owned(),
            axes,
            points,
        });
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
        let widest = |texts: &mut dyn Iterator<Item = &String>| texts.map(|text| text.chars().count()).max();
        let width = widest(&mut self.measures.iter().map(|measure| &measure.what)).unwrap_or(0);
        let names = widest(&mut self.measures.iter().map(|measure| &measure.scenario)).unwrap_or(0);
        let names = names.max("scenario".len());
        let mut text = format!(
            "{:<names$}  {:<width$}  {:>11}  {:>11}  {:>11}\n",
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
                "{shown:<names$}  {:<width$}  {:>11}  {:>11}  {:>11}  {}",
                measure.what,
                number(middle),
                number(low),
                number(high),
                measure.unit
            );
            text += line.trim_end();
            text.push('\n');
        }
        text.push('\n');
        let void = self.void.iter();
        let void =
            void.map(|VoidRound { scenario, why, .. }| format!("void: a round of {scenario} is not counted: {why}\n"));
        text.extend(void);
        text.extend(self.notes.iter().map(|note| format!("note: {note}\n")));
        text
    }

    pub(super) fn json(&self) -> Value {
        let measures = self.measures.iter().map(|measure| {
            let (low, middle, high) = spread(&measure.rounds);
            json!({"scenario": measure.scenario, "measure": measure.what, "unit": measure.unit,
                "median": middle, "lowest": low, "highest": high, "rounds": measure.rounds})
        });
        let void = self.void.iter().map(|round| {
            let measures = round.measures.iter();
            let measures: Vec<Value> = measures
                .map(|(what, unit, value)| json!({"measure": what, "unit": unit, "value": value}))
                .collect();
            json!({"scenario": round.scenario, "why": round.why, "measures": measures})
        });
        let series = self.series.iter().map(|series| {
            json!({"scenario": series.scenario, "series": series.what, "axes": series.axes, "points": series.points})
        });
        json!({
            "backends": self.backends,
            "bugle": env!("CARGO_PKG_VERSION"),
            "build": profile(),
            "began_at": self.began,
            "command": without_paths(std::env::args().skip(1)),
            "machine": self.machine,
            "measures": measures.collect::<Vec<_>>(),
            "void": void.collect::<Vec<_>>(),
            "series": series.collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

/// The arguments but those that name files: where they are says nothing, and results are made to be shown.
fn without_paths(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let names_a_file = |word: &str| ["--json", "--dir", "--bugle"].contains(&word);
    let mut kept = Vec::new();
    let mut is_path = false;
    for word in arguments {
        let (option, value) = word
            .split_once('=')
            .map_or((&*word, None), |(option, value)| (option, Some(value)));
        if is_path {
            is_path = false;
        } else if names_a_file(option) {
            is_path = value.is_none();
        } else {
            kept.push(word);
        }
    }
    kept
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
            backends: "SQLite",
            began: 0,
            measures: Vec::new(),
            void: Vec::new(),
            series: Vec::new(),
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
    fn the_command_is_told_without_anybodys_paths() {
        let words = "bench growth --json a/b --rounds 5 --dir=/x --bugle c";
        let kept = without_paths(words.split(' ').map(str::to_owned));
        assert_eq!(kept.join(" "), "bench growth --rounds 5");
    }

    #[test]
    fn a_void_round_is_told_and_does_not_count() {
        let mut report = report();
        let round = |value| vec![("pushes".to_owned(), "/s", value)];
        report.add_all("send", round(5.0));
        report.add_void("send", "too loud".to_owned(), round(1.0));
        report.add_series("send", "progress", ["s", "pushes"], vec![(0.0, 1.0)]);
        let json = report.json();
        assert_eq!(json["measures"][0]["rounds"], json!([5.0]));
        assert_eq!(json["void"][0]["measures"][0]["value"], 1.0);
        assert_eq!(json["series"][0]["points"], json!([[0.0, 1.0]]));
        let text = report.text();
        assert!(
            text.contains("void: a round of send is not counted: too loud\n"),
            "{text}"
        );
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
            text.contains("register  single        2 000        1 000        3 000  /s\n"),
            "{text}"
        );
        assert!(text.ends_with("\nnote: so it is\n"), "{text}");
        assert_eq!(text.matches("register").count(), 1, "{text}");
    }
}
