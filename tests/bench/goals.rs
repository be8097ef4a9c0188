//! The operations that are counted, what they may cost at most, and the table that says whether they do.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// Figures of one run of the measuring program: operation → guest instructions.
pub type Counts = BTreeMap<String, i64>;

/// Syscalls repeat to this many instructions.
const NOISE: i64 = 3;

/// What an operation may cost more than on the same kernel without Cartouche.
#[derive(Clone, Copy)]
pub enum Goal {
    /// No goal; reported all the same.
    Open,
    Instructions(i64),
    /// Of the whole operation.
    Percent(i64),
}

impl Goal {
    /// In instructions, for an operation that costs `bare` without Cartouche.
    fn limit(self, bare: i64) -> Option<i64> {
        match self {
            Self::Open => None,
            Self::Instructions(limit) => Some(limit),
            Self::Percent(percent) => Some(bare * percent / 100),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("none"),
            Self::Instructions(limit) => write!(f, "+{}", grouped(*limit)),
            Self::Percent(percent) => write!(f, "+{percent} %"),
        }
    }
}

/// One line of the table.
struct Operation {
    /// As in measure.c.
    name: &'static str,
    text: &'static str,
    outside: Goal,
    /// While an artifact declares udp.
    outside_udp: Goal,
    subject: Goal,
}

const fn operation(
    name: &'static str,
    text: &'static str,
    [outside, outside_udp, subject]: [Goal; 3],
) -> Operation {
    Operation {
        name,
        text,
        outside,
        outside_udp,
        subject,
    }
}

/// The goals are those of the design, "Costs to hold".
const OPERATIONS: [Operation; 17] = {
    use Goal::{Instructions as I, Open, Percent};
    const NOBODY: [Goal; 3] = [I(0), I(0), I(0)];
    [
        operation(
            "open_shallow",
            "open+close, depth 2",
            [I(210), I(210), Open],
        ),
        operation(
            "open_deep",
            "open+close, depth 4",
            [I(210), I(210), I(2_100)],
        ),
        operation("stat", "stat, depth 4", NOBODY),
        operation("read", "read", NOBODY),
        operation("write", "write", NOBODY),
        operation("fcntl", "fcntl", [I(200), I(200), Open]),
        operation("ioctl", "ioctl", [I(200), I(200), Open]),
        operation("socketpair", "socketpair write+read", [I(10), I(10), Open]),
        operation(
            "udp_send_connected",
            "UDP send, connected",
            [I(10), I(10), Open],
        ),
        operation(
            "udp_send_addressed",
            "UDP send, addressed",
            [I(10), I(520), Open],
        ),
        operation(
            "udp_connect",
            "UDP connect, exact endpoint",
            [I(750), I(750), I(1_600)],
        ),
        operation(
            "udp_connect_range",
            "UDP connect, by a range",
            [I(750), I(750), I(1_600)],
        ),
        operation("tcp_socket", "TCP socket+close", [Open, Open, Open]),
        operation("tcp_connect", "TCP connect", [I(800), I(800), I(1_600)]),
        operation(
            "tcp_cycle",
            "TCP connect+accept+close",
            [I(800), I(800), Open],
        ),
        operation("fork", "fork+exit+wait", [Percent(1), Percent(1), Open]),
        operation(
            "fork_exec",
            "fork+exec+wait",
            [Percent(1), Percent(1), Open],
        ),
    ]
};

/// All configurations of one kernel.
pub struct Figures {
    pub bare: Counts,
    /// The control: `bare` once more.
    pub again: Counts,
    pub outside: Counts,
    pub outside_udp: Counts,
    pub subject: Counts,
}

impl Figures {
    /// The whole table; fails if the measuring program did not count what it should.
    pub fn table(&self) -> Result<String, String> {
        let mut table = format!(
            "{:28} {:>9} {:>7} {:>9} {:>9} {:>9}   {}\n",
            "", "without", "again", "outside", "with udp", "subject", "goals"
        );
        for operation in &OPERATIONS {
            let bare = count(&self.bare, operation.name)?;
            let beside = |counts| count(counts, operation.name).map(|count| count - bare);
            let again = beside(&self.again)?;
            let deltas = [
                beside(&self.outside)?,
                beside(&self.outside_udp)?,
                beside(&self.subject)?,
            ];
            let _ = write!(
                table,
                "{:28} {:>9} {:>7} ",
                operation.text,
                grouped(bare),
                signed(again)
            );
            for delta in deltas {
                let _ = write!(table, "{:>9} ", signed(delta));
            }
            let _ = writeln!(table, "  {}", operation.judge(bare, deltas));
        }
        Ok(table)
    }
}

impl Operation {
    fn judge(&self, bare: i64, deltas: [i64; 3]) -> String {
        let columns = [
            ("outside", self.outside),
            ("with udp", self.outside_udp),
            ("subject", self.subject),
        ];
        let judged: Vec<String> = columns
            .iter()
            .zip(deltas)
            .filter_map(|((who, goal), delta)| {
                let over = delta - goal.limit(bare)?;
                Some(if over <= NOISE {
                    format!("{who} within goal ({goal})")
                } else {
                    format!("{who} OVER GOAL BY {} ({goal})", grouped(over))
                })
            })
            .collect();
        if judged.is_empty() {
            "no goal".to_owned()
        } else {
            judged.join(", ")
        }
    }
}

fn count(counts: &Counts, name: &str) -> Result<i64, String> {
    counts
        .get(name)
        .copied()
        .ok_or_else(|| format!("the measuring program did not count {name:?}"))
}

fn signed(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "+" };
    format!("{sign}{}", grouped(number.abs()))
}

/// With a comma before every three digits.
fn grouped(number: i64) -> String {
    let digits = number.abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
