//! What stands around control's machine: rows, use cases, and who waits for orders. As little as can be, in the order of
//! `ncps_control::control::attach`.

use std::collections::BTreeMap;
use std::time::Duration;

use ncps_control::fleet::{Action, Fleet, SessionId, Spare};
use ncps_nix::NarFileName;
use ncps_proto::{EdgeReport, HeldNar, Said, Victim};
use ncps_runtime::clock::UnixTime;

use super::Defect;
use super::check::Broken;
use super::model::{Path, hash};
use super::world::World;

/// A process of control.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) fleet: Fleet,
    /// What it does in the background.
    pub(super) tasks: Vec<Task>,
    /// Who waits for the answer to an order.
    pub(super) waiters: BTreeMap<u64, Waiter>,
}

/// Work of control that takes its time.
#[derive(Debug)]
pub(super) enum Task {
    /// What an edge holds is compared with what was removed.
    Compare { instance: String, held: Vec<Path> },
    /// A report that was acknowledged too soon.
    Hear { session: SessionId, said: Said },
}

/// Who waits for an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Waiter {
    Eviction,
    Removal { instance: String },
}

impl Control {
    pub(super) fn new(run: u64) -> Control {
        Control { fleet: Fleet::new(format!("run {run}")), tasks: Vec::new(), waiters: BTreeMap::new() }
    }
}

impl World {
    /// The time of day, as control believes it.
    pub(super) fn today(&self) -> UnixTime {
        UnixTime(1_000_000 + self.now.as_secs().cast_signed() + self.skew)
    }

    /// Carries out what the machine wants, and looks whether everything holds.
    pub(super) fn carry_out(&mut self) {
        let Some(control) = &mut self.control else { return };
        for action in control.fleet.actions() {
            match action {
                Action::End(session) => {
                    let link = self.edges.iter_mut().filter_map(|edge| edge.link.as_mut());
                    let runs = self.runs;
                    link.filter(|link| link.session == session && link.run == runs)
                        .for_each(|link| link.ended = true);
                }
                Action::Unanswered(number) => drop(control.waiters.remove(&number)),
                Action::Wake(_) | Action::Counted(_) => {}
            }
        }
    }

    /// A report arrived.
    pub(super) fn control_receives(&mut self, session: SessionId, said: Said) -> Result<(), Broken> {
        let Some(control) = &mut self.control else { return Ok(()) };
        if !control.fleet.is_open(session) {
            return Ok(());
        }
        control.fleet.has_heard(session, said.heard);
        if self.defect == Some(Defect::AckBeforeCommit) && said.number > 0 {
            control.fleet.dealt_with(session, said.number);
            control.tasks.push(Task::Hear { session, said });
            return Ok(());
        }
        self.control_hears(session, said)
    }

    fn control_hears(&mut self, session: SessionId, Said { number, report, .. }: Said) -> Result<(), Broken> {
        let Some(instance) = self.instance_of(session) else { return Ok(()) };
        match report {
            EdgeReport::Inventory { held, last } => self.hear_inventory(session, &instance, held, last)?,
            EdgeReport::Committed(held) => {
                let (today, standing) = (self.today(), self.rows.standing(self.names.path(held.name)));
                self.fleet().committed(session, held, standing, today);
            }
            EdgeReport::Evicted { number, gone } => self.hear_of_removal(session, &instance, number, gone)?,
            EdgeReport::Disk(disk) => self.fleet().disk(session, disk),
            _ => {}
        }
        if number > 0 {
            self.fleet().dealt_with(session, number);
        }
        self.carry_out();
        Ok(())
    }

    fn hear_inventory(
        &mut self,
        session: SessionId,
        instance: &str,
        held: Vec<HeldNar>,
        last: bool,
    ) -> Result<(), Broken> {
        let paths: Vec<Path> = held.iter().map(|held| self.names.path(held.name)).collect();
        let timed = held.into_iter().map(|held| (held, UnixTime(0))).collect();
        let gone = self.fleet().holds(session, timed, last);
        paths.iter().for_each(|path| self.weigh(self.names.file(*path)));
        self.left(instance, &gone, false);
        self.adopt(instance, &paths);
        if self.defect == Some(Defect::PurgeForgotten) {
            return Ok(());
        }
        let compare = Task::Compare { instance: instance.to_owned(), held: paths };
        self.control.iter_mut().for_each(|control| control.tasks.push(compare_of(&compare)));
        Ok(())
    }

    /// What the index does not know and has a narinfo beside it is taken over.
    fn adopt(&mut self, instance: &str, held: &[Path]) {
        let edge = self.edges.iter().find(|edge| edge.instance == instance);
        let narinfos = edge.map(|edge| edge.narinfos.clone()).unwrap_or_default();
        for path in held.iter().filter(|path| narinfos.contains(path)) {
            if !self.rows.narinfos.contains(path) && !self.rows.removed.contains(path) {
                self.publish(*path);
            }
        }
    }

    fn publish(&mut self, path: Path) {
        self.rows.publish(path);
        if path < super::model::FIRST_UPSTREAM {
            self.rows.uploads.insert(path);
        }
        self.weigh(self.names.file(path));
    }

    fn hear_of_removal(
        &mut self,
        session: SessionId,
        instance: &str,
        number: u64,
        gone: Vec<NarFileName>,
    ) -> Result<(), Broken> {
        let settled = self.fleet().evicted(session, number, gone.clone());
        let for_room = settled.as_ref().is_some_and(|settled| settled.for_room);
        self.left(instance, &gone, for_room);
        let Some(settled) = settled else { return Ok(()) };
        let waiter = self.control.as_mut().and_then(|control| control.waiters.remove(&settled.number));
        match waiter {
            // It is not waited for any more.
            None => Ok(()),
            Some(Waiter::Eviction) if for_room => Ok(()),
            Some(Waiter::Removal { instance: asked }) if !for_room && asked == instance => Ok(()),
            other => Err(self.broken(format!("an answer to {} went to {other:?}", settled.number))),
        }
    }

    /// Files left an edge: what nobody can give again goes with its narinfo.
    fn left(&mut self, instance: &str, gone: &[NarFileName], for_room: bool) {
        for name in gone {
            let path = self.names.path(*name);
            if !self.rows.uploads.contains(&path) || !self.fleet().is_lost(instance, *name, for_room) {
                continue;
            }
            self.rows.narinfos.remove(&path);
            self.rows.uploads.remove(&path);
            self.tell(format_args!("the last copy of {path} is gone"));
            self.invalidate(path);
        }
    }

    /// See `ncps_control::control::standing`.
    pub(super) fn weigh(&mut self, name: NarFileName) {
        let standing = self.rows.standing(self.names.path(name));
        self.fleet().stands(name, standing);
    }

    pub(super) fn invalidate(&mut self, path: Path) {
        let now = self.instant();
        self.fleet().invalidate(&[hash(path)], now);
        self.carry_out();
    }

    /// A task of control goes on.
    pub(super) fn control_works(&mut self, which: usize) -> Result<(), Broken> {
        let Some(control) = &mut self.control else { return Ok(()) };
        match control.tasks.swap_remove(which) {
            Task::Compare { instance, held } => self.compare(&instance, &held),
            Task::Hear { session, said } => return self.control_hears(session, said),
        }
        Ok(())
    }

    fn compare(&mut self, instance: &str, held: &[Path]) {
        let paths: Vec<Path> = held.iter().copied().filter(|path| self.rows.is_removed(*path)).collect();
        let files: Vec<Path> =
            paths.iter().copied().filter(|path| !self.rows.uploads.contains(path)).collect();
        if !paths.is_empty() {
            self.tell(format_args!(
                "{instance} is to drop {paths:?} with files {files:?}, which were removed"
            ));
            self.order_removal(instance, &paths, &files);
        }
    }

    /// A path is purged, or deleted.
    pub(super) fn purge(&mut self, path: Path) {
        if self.control.is_none() || self.rows.pinned.contains(&path) {
            return;
        }
        self.tell(format_args!("{path} is purged"));
        self.rows.remove(path);
        self.acknowledged.remove(&path);
        if !self.edges.iter().any(|edge| edge.brings(path) || edge.pending.contains(&path)) {
            self.purged.insert(path);
        }
        for (instance, _) in self.fleet().removal() {
            self.order_removal(&instance, &[path], &[path]);
        }
    }

    fn order_removal(&mut self, instance: &str, paths: &[Path], files: &[Path]) {
        let files = files.iter().map(|path| self.names.file(*path)).collect();
        let (hashes, now) = (paths.iter().map(|path| hash(*path)).collect(), self.instant());
        let number = self.fleet().remove(instance, hashes, files, now);
        let waiter = Waiter::Removal { instance: instance.to_owned() };
        self.control.iter_mut().for_each(|control| {
            number.into_iter().for_each(|number| drop(control.waiters.insert(number, waiter.clone())));
        });
        self.carry_out();
    }

    /// An edge has to make room.
    pub(super) fn relieve(&mut self, edge: usize, files: u64) -> Result<(), Broken> {
        let (today, now, instance) = (self.today(), self.instant(), self.edges[edge].instance.clone());
        if self.control.is_none() {
            return Ok(());
        }
        let ignores = self.defect == Some(Defect::PinsIgnored);
        let (names, pinned) = (std::mem::take(&mut self.names), std::mem::take(&mut self.rows.pinned));
        let is_pinned = |name| !ignores && pinned.contains(&names.path(name));
        let plan = self.fleet().plan(&instance, files * 8192, today, now, is_pinned);
        (self.names, self.rows.pinned) = (names, pinned);
        let victims = plan.victims.iter().map(|planned| {
            let victim = Victim { name: planned.name, narinfos: vec![hash(self.names.path(planned.name))] };
            (victim, planned.spare.then_some(Spare { uploaded: planned.uploaded }))
        });
        let victims: Vec<_> = victims.collect();
        let spare: Vec<Path> = victims
            .iter()
            .filter(|(_, spare)| spare.is_some())
            .map(|(v, _)| self.names.path(v.name))
            .collect();
        let victims = self.fleet().going(&instance, victims);
        let paths: Vec<Path> = victims.iter().map(|victim| self.names.path(victim.name)).collect();
        if let Some(path) = paths.iter().find(|path| self.rows.pinned.contains(path)) {
            return Err(self.broken(format!("{instance} is to evict {path}, which is pinned")));
        }
        if victims.is_empty() {
            return Ok(());
        }
        self.tell(format_args!("{instance} is to make room by {paths:?}, of which {spare:?} are spare"));
        if let Some(number) = self.fleet().evict(&instance, victims) {
            for path in paths {
                if spare.contains(&path) && self.is_said_elsewhere(&instance, path) {
                    self.spare.insert((instance.clone(), path));
                } else {
                    // The last copy that counts: with it its narinfo goes.
                    self.spare.retain(|(_, other)| *other != path);
                    self.acknowledged.remove(&path);
                }
            }
            self.control
                .iter_mut()
                .for_each(|control| drop(control.waiters.insert(number, Waiter::Eviction)));
        }
        self.carry_out();
        Ok(())
    }

    /// Whether control believes of another disk that there is that it has a file. Of one that is gone, with its edge, it
    /// can't know so before it sees the end of the session.
    fn is_said_elsewhere(&mut self, instance: &str, path: Path) -> bool {
        let others = self.edges.iter().map(|edge| edge.instance.clone()).filter(|other| other != instance);
        let (others, name): (Vec<_>, _) = (others.collect(), self.names.file(path));
        others.iter().any(|other| self.fleet().holdings(other).contains(&name))
    }

    /// Who waited for an order gives up: a removal that is not confirmed ends the session.
    pub(super) fn gives_up(&mut self, which: usize) {
        let Some(control) = &mut self.control else { return };
        let Some((number, waiter)) = control.waiters.iter().nth(which).map(|(n, w)| (*n, w.clone())) else {
            return;
        };
        self.tell(format_args!("order {number} is not waited for any more"));
        if let Some(control) = &mut self.control {
            control.waiters.remove(&number);
        }
        if let Waiter::Removal { instance } = waiter {
            let now = self.instant();
            self.fleet().cut(&instance, now);
            self.carry_out();
        }
    }

    /// A session ends, as control sees it.
    pub(super) fn control_closes(&mut self, session: SessionId) -> Result<(), Broken> {
        let (now, instance) = (self.instant(), self.instance_of(session));
        let Some(control) = &mut self.control else { return Ok(()) };
        let before = control.fleet.turns(now);
        control.fleet.close(session, now);
        if self.defect == Some(Defect::TurnKept) {
            for (name, holder) in before.iter().filter(|(_, holder)| Some(holder) == instance.as_ref()) {
                control.fleet.begin(holder, *name, &[], now);
            }
        }
        let attached: Vec<String> =
            control.fleet.attached().into_iter().map(|(instance, _)| instance).collect();
        let kept = control
            .fleet
            .turns(now)
            .into_iter()
            .find(|(_, holder)| Some(holder) == instance.as_ref() && !attached.contains(holder));
        self.carry_out();
        match kept {
            Some((_, holder)) => Err(self.broken(format!("{holder} is gone and has a turn"))),
            None => Ok(()),
        }
    }

    fn instance_of(&self, session: SessionId) -> Option<String> {
        let control = self.control.as_ref()?;
        let attached = control.fleet.attached().into_iter().map(|(instance, _)| instance);
        attached.into_iter().find(|instance| control.fleet.session_of(instance) == Some(session))
    }

    /// The machine. Only asked for where control is up.
    pub(super) fn fleet(&mut self) -> &mut Fleet {
        &mut self.control.as_mut().expect("control is up").fleet
    }

    /// The time that only goes on.
    pub(super) fn instant(&self) -> std::time::Instant {
        self.start + self.now
    }

    pub(super) fn passes(&mut self, time: Duration) {
        self.now += time;
        let now = self.instant();
        if let Some(control) = &mut self.control {
            control.fleet.expire(now);
        }
    }
}

fn compare_of(task: &Task) -> Task {
    match task {
        Task::Compare { instance, held } => Task::Compare { instance: instance.clone(), held: held.clone() },
        Task::Hear { session, said } => Task::Hear { session: *session, said: said.clone() },
    }
}
