//! The steps of the gate, in the order of the design. The first step that fails is the verdict and
//! reports all of its problems.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::identity::{declared, examine, examine_code};
use super::{
    BoundExecutable, Decision, Effective, EffectiveCapability, Inputs, Verdict, may_replace,
};
use crate::artifact::ceiling::Ceiling;
use crate::artifact::draft::{Claimed, Draft, PinnedCode, Verify};
use crate::artifact::problem::{Place, Problem, Problems};
use crate::artifact::{protected, signature, unit};
use crate::event::{Code, Detail, ErrorCode, Event, Outcome};

/// Where the gate closed.
struct Closed {
    /// The event of the step, one for each problem, if it has its own.
    code: Option<Code>,
    problems: Problems,
    waiting: bool,
}

type Step<T = ()> = Result<T, Closed>;

/// A capability and where the artifact declares it.
type Placed = (Place, EffectiveCapability);

pub(super) fn decide(inputs: &Inputs) -> Decision {
    let Claimed {
        id, paths, unit, ..
    } = Claimed::of(&inputs.document);
    let mut gate = Gate::new(inputs, id);
    gate.submit();
    let verdict = match gate.run() {
        Ok(effective) => Verdict::Admitted(effective),
        Err(closed) => gate.reject(closed),
    };
    let claims = paths
        .into_iter()
        .filter(|path| unit.is_none() && gate.ceiling.allows_executable(path, false))
        .collect();
    Decision {
        verdict,
        id: gate.id,
        claims,
        unit,
        events: gate.events,
    }
}

struct Gate<'i> {
    inputs: &'i Inputs,
    ceiling: Ceiling<'i>,
    id: Option<String>,
    events: Vec<Event>,
}

impl<'i> Gate<'i> {
    fn new(inputs: &'i Inputs, id: Option<String>) -> Self {
        // No signature is verified in this version, so nobody is a publisher.
        let ceiling = inputs.scope.ceiling(None, &inputs.profiles);
        Self {
            inputs,
            ceiling,
            id,
            events: Vec::new(),
        }
    }

    fn run(&mut self) -> Step<Effective> {
        let draft = self.parse()?;
        let capabilities = self.validate(&draft)?;
        self.events
            .push(self.event(Code::EnvelopeValid, Outcome::Valid, Detail::EnvelopeValid));
        let digest = self.check_digest(&draft)?;
        let executables = self.check_executables(&draft, &capabilities)?;
        self.check_taken(&draft)?;
        let (capabilities, narrowed) = self.check_scope(&draft, capabilities)?;
        self.check_node(&draft, &capabilities)?;
        let detail = if narrowed.is_empty() {
            Detail::Admitted
        } else {
            Detail::Narrowed
        };
        let mut event = self
            .event(Code::Admitted, Outcome::Admitted, detail)
            .fact("digest", &digest)
            .fact("version", &draft.version);
        event.message = (!narrowed.is_empty()).then(|| narrowed.join("; "));
        self.events.push(event);
        Ok(Effective {
            id: draft.id,
            version: draft.version,
            publisher: draft.publisher,
            description: draft.description,
            digest,
            executables,
            unit: draft.unit,
            capabilities: capabilities
                .into_iter()
                .map(|(_, capability)| capability)
                .collect(),
            narrowed,
        })
    }

    /// CART-001.
    fn submit(&mut self) {
        let update = self
            .inputs
            .admitted
            .values()
            .any(|other| other.file == self.inputs.name);
        let detail = if update { Detail::Update } else { Detail::New };
        let mut event = self
            .event(Code::Submitted, Outcome::Submitted, detail)
            .fact("file", &self.inputs.name);
        for (part, hash) in self.inputs.hashes() {
            event = event.fact(format!("sha256.{part}"), hash);
        }
        self.events.push(event);
    }

    /// Readable, schema known, envelope present, not empty, and each key in its place.
    fn parse(&mut self) -> Step<Draft> {
        if let Some(fault) = &self.inputs.file_problem {
            let problem = Problem::new(
                Place::default(),
                ErrorCode::InvalidEnvelope,
                fault.detail,
                fault.message.clone(),
            );
            return self.close(Code::EnvelopeInvalid, vec![problem]);
        }
        let parsed = Draft::parse(&self.inputs.document, &self.inputs.name);
        if parsed
            .as_ref()
            .map_or_else(|problems| problems.schema_known, |_| true)
        {
            self.events.push(self.event(
                Code::SchemaValidated,
                Outcome::Valid,
                Detail::SchemaKnown,
            ));
        }
        parsed.map_err(|problems| {
            let invalid = problems
                .list
                .iter()
                .any(|p| p.code == Some(ErrorCode::InvalidEnvelope));
            Closed {
                code: invalid.then_some(Code::EnvelopeInvalid),
                problems,
                waiting: false,
            }
        })
    }

    /// What is wrong with the artifact in its surroundings, else its capabilities without profiles, each
    /// with its place.
    fn validate(&self, draft: &Draft) -> Step<Vec<Placed>> {
        let mut problems = Vec::new();
        let mut refuse = |place: Place, detail: Detail, message: String| {
            problems.push(Problem::new(
                place,
                ErrorCode::InvalidEnvelope,
                detail,
                message,
            ));
        };
        if self.inputs.signature_present {
            let message = format!(
                "signatures cannot be verified by this version of Cartouche; remove {}",
                signature::file_name(&self.inputs.name)
            );
            refuse(Place::default(), Detail::Unsupported, message);
        }
        for grant in &self.inputs.site_grants {
            let message = format!(
                "site grants cannot be enforced by this version of Cartouche; remove {}.d/{grant}",
                self.inputs.name
            );
            refuse(Place::default(), Detail::Unsupported, message);
        }
        let mut capabilities = Vec::new();
        for (declared, place) in draft.capabilities.iter().zip(&draft.capability_places) {
            let origin = declared.full_name();
            let Some(expanded) = self.inputs.profiles.expand(declared) else {
                let known: Vec<&str> = self.inputs.profiles.iter().map(|(name, _)| name).collect();
                let message = format!(
                    "there is no {origin} on this node; it has {}",
                    known.join(", ")
                );
                refuse(*place, Detail::UnknownProfile, message);
                continue;
            };
            for capability in expanded {
                if declared.profile.is_some() && !capability.files.is_empty() {
                    let message = format!(
                        "{capability} of {origin} pins files, which a profile cannot in this version of \
                         Cartouche; do without that profile, and pin them in the artifact"
                    );
                    refuse(*place, Detail::Unsupported, message);
                }
                let effective = EffectiveCapability {
                    capability: Arc::new(capability),
                    origin: origin.clone(),
                };
                capabilities.push((*place, effective));
            }
        }
        self.close_unless_empty(Code::EnvelopeInvalid, problems)?;
        Ok(capabilities)
    }

    fn check_digest(&mut self, draft: &Draft) -> Step<String> {
        let computed = draft.computed_digest();
        let (detail, message) = match &draft.digest {
            Some(declared) if *declared == computed => {
                let event = self
                    .event(Code::DigestVerified, Outcome::Valid, Detail::EnvelopeDigest)
                    .fact("digest", &computed);
                self.events.push(event);
                return Ok(computed);
            }
            Some(declared) => (
                Detail::EnvelopeDigest,
                format!(
                    "the digest is {declared}, but the document's is {computed}; if the change is \
                     wanted, run `cartouche seal`"
                ),
            ),
            None if self.inputs.options.as_if_sealed => return Ok(computed),
            None => (
                Detail::Unsealed,
                "the envelope has no digest; run `cartouche seal`".to_owned(),
            ),
        };
        let problem = Problem::new(
            draft.digest_place,
            ErrorCode::DigestMismatch,
            detail,
            message,
        );
        self.close(Code::DigestMismatch, vec![problem])
    }

    fn check_executables(
        &mut self,
        draft: &Draft,
        capabilities: &[Placed],
    ) -> Step<Vec<BoundExecutable>> {
        if !self.inputs.options.executables {
            return Ok(draft.executables.iter().map(declared).collect());
        }
        let mut problems = Vec::new();
        let mut bound = Vec::new();
        for executable in &draft.executables {
            let facts = self
                .inputs
                .executables
                .iter()
                .find(|f| f.path == executable.path);
            let envelope = capabilities.iter().map(|(_, one)| one.capability.as_ref());
            match examine(executable, facts) {
                Ok(found) if found.script && may_replace(envelope, &executable.path) => {
                    let message = format!(
                        "{:?} is a script, which its interpreter opens by name, and the envelope lets it \
                         put another file there; declare less",
                        executable.path
                    );
                    problems.push(Problem::new(
                        executable.place,
                        ErrorCode::DigestMismatch,
                        Detail::ExecutableReplaceable,
                        message,
                    ));
                }
                Ok(found) => bound.push(BoundExecutable {
                    path: executable.path.clone(),
                    sha256: found.sha256.clone(),
                    script: found.script,
                    measured: executable.contents_to_measure(),
                }),
                Err((detail, message)) => {
                    let code = (detail != Detail::Waiting).then_some(ErrorCode::DigestMismatch);
                    problems.push(Problem::new(executable.place, code, detail, message));
                }
            }
        }
        let (pinned, code_problems) = self.check_code(draft);
        problems.extend(code_problems);
        // A file that is there and wrong outweighs one that is not there yet.
        if problems
            .iter()
            .any(|problem| problem.detail != Detail::Waiting)
        {
            problems.retain(|problem| problem.detail != Detail::Waiting);
        }
        let waiting = problems
            .iter()
            .any(|problem| problem.detail == Detail::Waiting);
        let code = (!waiting).then_some(Code::DigestMismatch);
        if !problems.is_empty() {
            return Err(Closed {
                code,
                problems: self.problems(problems),
                waiting,
            });
        }
        for executable in &bound {
            let event = self
                .event(
                    Code::DigestVerified,
                    Outcome::Valid,
                    Detail::ExecutableDigest,
                )
                .fact("executable", &executable.path)
                .fact("sha256", &executable.sha256);
            self.events.push(event);
        }
        for pinned in pinned {
            let event = self
                .event(Code::DigestVerified, Outcome::Valid, Detail::CodeDigest)
                .fact("file", &pinned.path)
                .fact("sha256", &pinned.sha256);
            self.events.push(event);
        }
        Ok(bound)
    }

    /// The pinned files that are what the artifact says, and what is wrong with the others.
    fn check_code<'d>(&self, draft: &'d Draft) -> (Vec<&'d PinnedCode>, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut sound = Vec::new();
        for pinned in &draft.code {
            let mut facts = self.inputs.code.iter();
            let facts = facts.find(|facts| facts.path == pinned.path);
            match examine_code(pinned, facts) {
                Ok(_) => sound.push(pinned),
                Err((detail, message)) => {
                    let code = (detail != Detail::Waiting).then_some(ErrorCode::DigestMismatch);
                    problems.push(Problem::new(pinned.place, code, detail, message));
                }
            }
        }
        (sound, problems)
    }

    /// The id and every executable belong to no other artifact.
    fn check_taken(&self, draft: &Draft) -> Step {
        let mut problems = Vec::new();
        let mut refuse = |place: Place, detail: Detail, message: String| {
            problems.push(Problem::new(
                place,
                ErrorCode::DuplicateArtifact,
                detail,
                message,
            ));
        };
        for (id, other) in &self.inputs.admitted {
            if other.file == self.inputs.name {
                continue;
            }
            if *id == draft.id {
                let message = format!(
                    "the id {id:?} is that of {:?}, which is admitted",
                    other.file
                );
                refuse(draft.id_place, Detail::DuplicateId, message);
            }
            if draft.unit.is_some() && draft.unit == other.unit {
                let message = format!(
                    "the unit {:?} is that of {id:?} of {:?}, which is admitted",
                    other.unit.as_deref().unwrap_or_default(),
                    other.file
                );
                refuse(draft.id_place, Detail::DuplicateUnit, message);
            }
            for executable in &draft.executables {
                let everywhere = draft.unit.is_none() && other.unit.is_none();
                if everywhere && other.executables.contains(&executable.path) {
                    let message = format!(
                        "{:?} belongs to {id:?} of {:?}, which is admitted",
                        executable.path, other.file
                    );
                    refuse(executable.place, Detail::DuplicateExecutable, message);
                }
            }
        }
        for executable in &draft.executables {
            let mut facts = self.inputs.executables.iter();
            let facts = facts.find(|facts| facts.path == executable.path);
            if let Some(id) = facts.and_then(|facts| facts.taken_by.as_ref())
                && draft.unit.is_none()
                && !self
                    .inputs
                    .admitted
                    .values()
                    .any(|other| other.executables.contains(&executable.path))
            {
                let message = format!(
                    "{:?} is the same file as an executable of {id:?}, which is admitted",
                    executable.path
                );
                problems.push(Problem::new(
                    executable.place,
                    ErrorCode::DuplicateArtifact,
                    Detail::DuplicateExecutable,
                    message,
                ));
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            self.close(None, problems)
        }
    }

    /// The capabilities that lie within the scope, and what became of the optional ones that do not.
    fn check_scope(
        &self,
        draft: &Draft,
        capabilities: Vec<Placed>,
    ) -> Step<(Vec<Placed>, Vec<String>)> {
        let mut problems = Vec::new();
        let mut refuse = |place: Place, detail: Detail, message: String| {
            problems.push(Problem::new(place, ErrorCode::OverScoped, detail, message));
        };
        if let Some(unit) = draft.unit.as_ref().filter(|unit| unit::is_excluded(unit)) {
            let message = format!(
                "no artifact holds the unit {unit:?}: without it the machine cannot be administered"
            );
            refuse(draft.id_place, Detail::UnitOutOfScope, message);
        }
        for executable in &draft.executables {
            if !self
                .ceiling
                .allows_executable(&executable.path, draft.unit.is_some())
            {
                let message = format!(
                    "the scope lets no artifact claim {:?}; where that is wanted, name it by exact \
                     path in `executables` of scope.toml",
                    executable.path
                );
                refuse(executable.place, Detail::ExecutableOutOfScope, message);
            }
        }
        // A profile is one declaration: it is narrowed away as a whole.
        let mut outside = BTreeMap::new();
        for (place, EffectiveCapability { capability, origin }) in &capabilities {
            let never = protected::never_grantable(capability);
            if !never.is_empty() {
                let message = format!("no scope can grant {capability} {}", never.join(", "));
                refuse(*place, Detail::NeverGrantable, message);
                continue;
            }
            let beyond = self.ceiling.outside(capability);
            if beyond.is_empty() {
                continue;
            }
            let rules: Vec<String> = beyond.iter().map(ToString::to_string).collect();
            let rules = rules.join(", ");
            if capability.mandatory {
                let message = format!(
                    "{origin} is beyond the scope: {capability} {rules}; declare less, or add it to \
                     scope.toml"
                );
                refuse(*place, Detail::CapabilityOutOfScope, message);
            } else {
                let sentence =
                    format!("{origin} is beyond the scope and left out: {capability} {rules}");
                outside.entry(*place).or_insert(sentence);
            }
        }
        let (within, without): (Vec<_>, Vec<_>) = capabilities
            .into_iter()
            .partition(|(place, _)| !outside.contains_key(place));
        if within.is_empty()
            && let Some((place, _)) = without.first()
        {
            let message = "every capability is optional and beyond the scope, so none is left";
            refuse(*place, Detail::NothingLeft, message.to_owned());
        }
        if !problems.is_empty() {
            return self.close(None, problems);
        }
        Ok((within, outside.into_values().collect()))
    }

    /// Whether this node can do it at present.
    fn check_node(&self, draft: &Draft, capabilities: &[Placed]) -> Step {
        let node = &self.inputs.node;
        let mut problems: Vec<Problem> = node
            .blockers
            .iter()
            .map(|blocker| {
                let message = format!("this node enforces nothing: {blocker}");
                Problem::new(Place::default(), None, Detail::NodeCannotEnforce, message)
            })
            .collect();
        if problems.is_empty() && !node.measures {
            let measured = draft.executables.iter();
            problems = measured
                .filter(|executable| executable.verify == Verify::Measured)
                .map(|executable| {
                    let message = format!(
                        "{:?} is to be measured, and this kernel cannot: it is built without IMA",
                        executable.path
                    );
                    Problem::new(executable.place, None, Detail::NodeCannotEnforce, message)
                })
                .collect();
        }
        if problems.is_empty() {
            problems = capabilities
                .iter()
                .filter(|(_, c)| !node.enforceable.contains(&c.capability.name))
                .map(|(place, c)| {
                    let message = format!(
                        "{} of {:?} cannot be enforced on this node; see `cartouche posture`",
                        c.capability, draft.id
                    );
                    Problem::new(*place, None, Detail::NodeCannotEnforce, message)
                })
                .collect();
        }
        if problems.is_empty() {
            Ok(())
        } else {
            self.close(None, problems)
        }
    }

    /// CART-003, after the events of the step that failed.
    fn reject(&mut self, closed: Closed) -> Verdict {
        let Closed {
            code,
            problems,
            waiting,
        } = closed;
        if let Some(code) = code {
            for problem in &problems.list {
                let mut event = self
                    .event(code, Outcome::Invalid, problem.detail)
                    .message(&problem.message);
                event.error = problem.code;
                if problem.line > 0 {
                    event = event
                        .fact("line", problem.line.to_string())
                        .fact("column", problem.column.to_string());
                }
                self.events.push(event);
            }
        }
        let first = problems.list.first();
        let error = first.and_then(|problem| problem.code);
        let detail = first.map_or(Detail::Unreadable, |problem| problem.detail);
        let mut event = self
            .event(Code::Rejected, Outcome::Rejected, detail)
            .message(problems.to_string());
        event.error = error;
        self.events.push(event);
        Verdict::Rejected {
            error,
            detail,
            waiting,
            problems,
        }
    }

    fn event(&self, code: Code, outcome: Outcome, detail: Detail) -> Event {
        let artifact = self.id.as_ref().unwrap_or(&self.inputs.name);
        Event::new(code, outcome).detail(detail).artifact(artifact)
    }

    fn problems(&self, list: Vec<Problem>) -> Problems {
        Problems::new(&self.inputs.name, true, list)
    }

    fn close<T>(&self, code: impl Into<Option<Code>>, problems: Vec<Problem>) -> Step<T> {
        let problems = self.problems(problems);
        Err(Closed {
            code: code.into(),
            problems,
            waiting: false,
        })
    }

    fn close_unless_empty(&self, code: Code, problems: Vec<Problem>) -> Step {
        if problems.is_empty() {
            Ok(())
        } else {
            self.close(code, problems)
        }
    }
}
