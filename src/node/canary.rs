//! The proof that enforcement is real: a child of a built-in artifact tries what it may not do, and must
//! be refused and reported. Lists and links can be right while nothing is enforced; this cannot.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use crate::admission::{BoundExecutable, Effective, EffectiveCapability};
use crate::artifact::capability::{Capability, CapabilityName};
use crate::artifact::profile::ProfileSet;
use crate::bpf::sys;
use crate::enforcer::Mode;
use crate::executable;
use crate::plan::Plan;
use crate::posture::Canary;

use super::{Error, Node, now_unix};

/// The id of the built-in artifact; no file can take it.
pub(super) const ID: &str = "cartouche.canary";

/// The program.
pub(super) const PROGRAM: &str = "/usr/libexec/cartouche/canary";

/// What the canary program tells by its exit status: a bit for each act that was refused.
pub const OPEN_REFUSED: u8 = 1;
pub const CONNECT_REFUSED: u8 = 2;
pub const EXEC_REFUSED: u8 = 4;
/// Always set, so that another program's exit status cannot look like an answer.
pub const ANSWERED: u8 = 64;

/// What is known of the canary.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) last: Canary,
    /// Operations that the kernel reported since it was last sent. Its children's count too: the exec
    /// is tried by one.
    seen: BTreeSet<u16>,
    /// The process under way.
    pid: Option<u32>,
}

impl State {
    /// Takes a record of the canary's slot; false if it is none of the run under way, and so a matter for
    /// the audit.
    pub(super) fn saw(&mut self, record: &sys::event) -> bool {
        let exec = record.operation == sys::right::RIGHT_EXEC.0 as u16;
        let own = self.pid == Some(record.tgid);
        let child = exec
            && self
                .pid
                .is_some_and(|pid| parent_of(record.tgid).is_none_or(|p| p == pid));
        if own || child {
            self.seen.insert(record.operation);
        }
        own || child
    }
}

/// A canary that is running.
#[derive(Debug)]
pub struct CanaryRun {
    pub child: Child,
}

impl Node {
    /// Binds the canary's program to its built-in artifact: it may start, and nothing else.
    pub(super) fn bind_canary(&mut self) -> Result<(), Error> {
        let why = |why: &str| Error::Canary(format!("{PROGRAM}: {why}"));
        let opened = executable::open(PROGRAM)
            .map_err(|error| why(&error.to_string()))?
            .ok_or_else(|| why("it is not installed"))?;
        let (identity, _) = self.kernel.identify(&opened.file)?;
        let found = executable::facts(&opened).map_err(|error| why(&error.to_string()))?;
        let mut base = Capability::new(CapabilityName::Profile);
        base.profile = Some("base".to_owned());
        let capabilities = ProfileSet::shipped()
            .expand(&base)
            .unwrap_or_default()
            .into_iter()
            .map(|capability| EffectiveCapability {
                capability: capability.into(),
                origin: "profile:base".to_owned(),
            })
            .collect();
        let effective = Effective {
            id: ID.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            publisher: "cartouche".to_owned(),
            description: None,
            digest: String::new(),
            executables: vec![BoundExecutable {
                path: PROGRAM.to_owned(),
                sha256: String::new(),
                script: false,
                measured: BTreeSet::new(),
            }],
            unit: None,
            capabilities,
            narrowed: Vec::new(),
        };
        let plan = Plan::compile(&effective, &found.loaders.paths)
            .map_err(|error| why(&error.to_string()))?;
        let slot = self.slot(ID)?;
        let number = self.plan_number()?;
        self.kernel.stage(number, &plan)?;
        // always enforced: on a node that only audits it still tells whether the kernel could refuse
        self.kernel
            .commit(slot, number, plan.flags, Mode::Enforce)?;
        self.kernel.bind(&identity, slot, false)?;
        Ok(())
    }

    /// Sends the canary out. The caller waits for its end, and then calls [`Node::canary_returned`].
    pub fn send_canary(&mut self) -> Option<CanaryRun> {
        self.drain();
        self.canary.seen.clear();
        let child = Command::new(PROGRAM)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok();
        if child.is_none() {
            self.canary.last = Canary {
                ran_at_unix: Some(now_unix()),
                ..Canary::default()
            };
        }
        self.canary.pid = child.as_ref().map(Child::id);
        child.map(|child| CanaryRun { child })
    }

    /// Takes the canary's answer and the kernel's records of it. Whether the result differs.
    pub fn canary_returned(&mut self, mut run: CanaryRun) -> bool {
        let status = run
            .child
            .wait()
            .ok()
            .and_then(|status| status.code())
            .and_then(|code| u8::try_from(code).ok())
            .filter(|code| code & ANSWERED != 0)
            .unwrap_or(0);
        self.drain();
        self.canary.pid = None;
        let expected = [
            sys::right::RIGHT_READ.0 as u16,
            sys::operation::OP_NET_CONNECT.0 as u16,
            sys::right::RIGHT_EXEC.0 as u16,
        ];
        let now = Canary {
            ran_at_unix: Some(now_unix()),
            open_refused: status & OPEN_REFUSED != 0,
            connect_refused: status & CONNECT_REFUSED != 0,
            exec_refused: status & EXEC_REFUSED != 0,
            events_seen: expected
                .iter()
                .all(|operation| self.canary.seen.contains(operation)),
        };
        let before = self.canary.last;
        self.canary.last = now;
        before.passed() != now.passed() || before.ran_at_unix.is_none()
    }
}

/// The parent of a process; None if the process is gone, as the child that tried to exec soon is.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    let parent: u32 = after_name.split(' ').nth(1)?.parse().ok()?;
    // a process that is being reaped right now is still listed, without a parent
    (parent != 0).then_some(parent)
}
