//! What stands around an edge's machine: its disk, its tasks, its clients, and its calls to control. As little as can be,
//! in the order of `ncps_edge::attach` and `ncps_edge::transfer`.

use std::collections::BTreeSet;

use ncps_edge::attach::dialogue::{Dialogue, Effect, Next, Ticket};
use ncps_proto::{Directive, DiskReport, EdgeReport, Hello, Told, Turn};

use super::Defect;
use super::check::Broken;
use super::link::Link;
use super::model::{FIRST_UPSTREAM, Path, path_of};
use super::world::World;

/// An edge: a process, unless it crashed, over a disk.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) instance: String,
    pub(super) is_up: bool,
    /// It can't reach control.
    pub(super) is_cut_off: bool,
    pub(super) dialogue: Dialogue,
    pub(super) link: Option<Link>,
    /// NAR files.
    pub(super) disk: BTreeSet<Path>,
    /// Narinfo files beside them.
    pub(super) narinfos: BTreeSet<Path>,
    /// Narinfos in memory.
    pub(super) near: BTreeSet<Path>,
    pub(super) tasks: Vec<Task>,
    /// Commits that control was not told of.
    pub(super) pending: Vec<Path>,
}

/// Work of an edge that takes its time.
#[derive(Debug)]
pub(super) enum Task {
    /// The store is listed for the session.
    List,
    Evict {
        ticket: Ticket,
        victims: Vec<Path>,
        gone: Vec<Path>,
    },
    Remove {
        ticket: Ticket,
        paths: Vec<Path>,
        files: Vec<Path>,
        gone: Vec<Path>,
    },
    /// A narinfo of the store is made to agree.
    Refresh(Path),
    /// A client waits for a file. `removed`: it was taken out meanwhile, and is not kept.
    Fetch {
        path: Path,
        has_turn: bool,
        removed: bool,
    },
    /// Control is told of a file in the store.
    Announce(Path),
    /// A client brings a path.
    Upload {
        path: Path,
        stored: bool,
    },
}

/// What became of a call.
enum Call<T> {
    Answered(T),
    /// Control may have done it.
    Failed,
}

impl Edge {
    pub(super) fn new(instance: String) -> Edge {
        Edge {
            instance,
            is_up: true,
            is_cut_off: false,
            dialogue: Dialogue::default(),
            link: None,
            disk: BTreeSet::new(),
            narinfos: BTreeSet::new(),
            near: BTreeSet::new(),
            tasks: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// The process is killed.
    pub(super) fn crash(&mut self) {
        self.is_up = false;
        self.dialogue = Dialogue::default();
        self.near.clear();
        self.tasks.clear();
        self.pending.clear();
        self.link.iter_mut().for_each(Link::cut);
        // At its start it removes narinfo files that name nothing.
        self.narinfos.retain(|path| self.disk.contains(path));
    }

    /// Whether a path may come into the store by what goes on here.
    pub(super) fn brings(&self, path: Path) -> bool {
        let brings = |task: &Task| match task {
            Task::Fetch { path: other, .. } | Task::Announce(other) | Task::Upload { path: other, .. } => {
                *other == path
            }
            _ => false,
        };
        self.tasks.iter().any(brings)
    }

    fn fetches(&self, path: Path) -> bool {
        self.tasks.iter().any(|task| matches!(task, Task::Fetch { path: other, .. } if *other == path))
    }
}

impl World {
    /// An edge attaches.
    pub(super) fn attach(&mut self, which: usize) {
        let edge = &mut self.edges[which];
        let Some(control) = &mut self.control else { return };
        if !edge.is_up || edge.is_cut_off || edge.link.is_some() || edge.dialogue.is_busy() {
            return;
        }
        let hello = Hello { durable: true, ..Hello::new(edge.instance.clone(), edge.instance.clone()) };
        let EdgeReport::Hello(hello) = edge.dialogue.begin(hello).report else { return };
        let today = super::world::today(self.now, self.skew);
        let (session, mut welcome) = control.fleet.open(&hello, today);
        if self.defect == Some(Defect::WrongBase) {
            welcome.resumes = welcome.resumes.or(hello.resume.map(|resume| resume.heard));
        }
        let settings = Box::new(self.settings.clone());
        let first = Told { number: 0, welcome: Some(welcome), directive: Directive::Configure(settings) };
        edge.link = Some(Link::new(session, self.runs, first));
        self.tell(format_args!("edge {which} attaches, session {session:?}"));
        self.carry_out();
    }

    /// An edge sees that its session is over.
    pub(super) fn detach(&mut self, which: usize) {
        let edge = &mut self.edges[which];
        if let Some(link) = edge.link.take_if(|link| link.broken || (link.ended && link.down.is_empty())) {
            edge.dialogue.end();
            // Control may not have seen it yet.
            self.open.extend(Some(link.session).filter(|_| link.run == self.runs));
            self.tell(format_args!("edge {which} sees the end of {:?}", link.session));
        }
    }

    /// An edge says something, if there is something to say.
    pub(super) fn speaks(&mut self, which: usize) -> Result<bool, Broken> {
        let edge = &mut self.edges[which];
        let Some(link) = edge.link.as_mut().filter(|link| edge.is_up && !link.broken && !link.ended) else {
            return Ok(false);
        };
        let Ok(next) = edge.dialogue.next() else {
            link.cut();
            return Ok(true);
        };
        let said = match next {
            None => return Ok(false),
            Some(Next::List) => {
                edge.tasks.push(Task::List);
                return Ok(true);
            }
            Some(Next::Say(said)) => said,
            Some(Next::Look { number, change }) => {
                let (disk, names) = (&edge.disk, &self.names);
                let held = |name| Some(names.path(name)).filter(|p| disk.contains(p)).map(|p| names.held(p));
                match edge.dialogue.look(number, change, held) {
                    Some(said) => said,
                    None => return Ok(true),
                }
            }
            Some(Next::Disk) => edge.dialogue.says(EdgeReport::Disk(DiskReport::default())),
            Some(Next::UpstreamBack | Next::Drained | Next::Accesses | Next::Totals) => return Ok(true),
        };
        link.up.push_back(said);
        Ok(true)
    }

    /// An edge hears what arrives first.
    pub(super) fn hears(&mut self, which: usize) -> Result<(), Broken> {
        let ignores = self.defect == Some(Defect::GapIgnored);
        let edge = &mut self.edges[which];
        let Some(link) = edge.link.as_mut().filter(|_| edge.is_up) else { return Ok(()) };
        let Some(told) = link.down.pop_front() else { return Ok(()) };
        if ignores && told.number > 0 && self.random.once_in(3) {
            return Ok(());
        }
        let told = if ignores { Told { number: 0, ..told } } else { told };
        match edge.dialogue.hear(told) {
            Ok(Some(effect)) => self.obeys(which, effect),
            Ok(None) => {}
            Err(why) => {
                link.cut();
                self.tell(format_args!("edge {which} ends its session: {why}"));
            }
        }
        Ok(())
    }

    fn obeys(&mut self, which: usize, effect: Effect) {
        self.tell(format_args!("edge {which} hears {}", what(&effect)));
        let names = &self.names;
        let edge = &mut self.edges[which];
        match effect {
            Effect::Begin { behind, .. } => {
                edge.near.clear();
                edge.tasks.extend(behind.iter().map(|hash| Task::Refresh(path_of(hash))));
                edge.tasks.extend(std::mem::take(&mut edge.pending).into_iter().map(Task::Announce));
            }
            Effect::Forget(paths) => {
                for path in paths.iter().map(path_of) {
                    edge.near.remove(&path);
                    edge.tasks.push(Task::Refresh(path));
                }
            }
            Effect::Evict { ticket, victims } => {
                let victims = victims.iter().map(|victim| names.path(victim.name)).collect();
                edge.tasks.push(Task::Evict { ticket, victims, gone: Vec::new() });
            }
            Effect::Remove { ticket, store_paths, nars } => {
                let paths: Vec<Path> = store_paths.iter().map(path_of).collect();
                let files: Vec<Path> = nars.iter().map(|name| names.path(*name)).collect();
                for task in &mut edge.tasks {
                    if let Task::Fetch { path, removed, .. } = task {
                        *removed |= files.contains(path);
                    }
                }
                edge.near.retain(|path| !paths.contains(path));
                edge.narinfos.retain(|path| !paths.contains(path));
                edge.tasks.push(Task::Remove { ticket, paths, files, gone: Vec::new() });
            }
            _ => {}
        }
    }

    /// A task of an edge goes on by a step.
    pub(super) fn works(&mut self, which: usize, task: usize) -> Result<(), Broken> {
        let edge = &mut self.edges[which];
        match edge.tasks.swap_remove(task) {
            Task::List => {
                let held = edge.disk.iter().map(|path| self.names.held(*path)).collect();
                edge.dialogue.listed(held);
            }
            Task::Evict { ticket, victims, gone } => return self.evicts(which, ticket, victims, gone),
            Task::Remove { ticket, paths, files, gone } => self.removes(which, ticket, paths, files, gone),
            Task::Refresh(path) => self.refreshes(which, path),
            Task::Fetch { path, has_turn, removed } => self.fetches(which, path, has_turn, removed),
            Task::Announce(path) => self.announces(which, path),
            Task::Upload { path, stored } => self.uploads(which, path, stored),
        }
        Ok(())
    }

    fn evicts(
        &mut self,
        which: usize,
        ticket: Ticket,
        mut victims: Vec<Path>,
        mut gone: Vec<Path>,
    ) -> Result<(), Broken> {
        let edge = &mut self.edges[which];
        let Some(path) = victims.pop() else {
            edge.dialogue.done(ticket, gone.iter().map(|path| self.names.file(*path)).collect());
            self.spare.retain(|(instance, path)| *instance != edge.instance || !gone.contains(path));
            return Ok(());
        };
        if !edge.brings(path) {
            edge.narinfos.remove(&path);
            edge.disk.remove(&path);
            gone.push(path);
            self.last_copy(which, path)?;
        }
        self.edges[which].tasks.push(Task::Evict { ticket, victims, gone });
        Ok(())
    }

    /// A file goes; at the end narinfos that came back meanwhile are written.
    fn removes(
        &mut self,
        which: usize,
        ticket: Ticket,
        paths: Vec<Path>,
        mut files: Vec<Path>,
        mut gone: Vec<Path>,
    ) {
        let Some(path) = files.pop() else {
            let edge = &mut self.edges[which];
            edge.narinfos.retain(|path| !paths.contains(path));
            edge.dialogue.done(ticket, gone.iter().map(|path| self.names.file(*path)).collect());
            edge.tasks.extend(paths.into_iter().map(Task::Refresh));
            return;
        };
        let edge = &mut self.edges[which];
        edge.disk.remove(&path);
        gone.push(path);
        edge.tasks.push(Task::Remove { ticket, paths, files, gone });
    }

    /// Control is asked for a narinfo, and the store made to agree.
    fn refreshes(&mut self, which: usize, path: Path) {
        let known = match self.call(which, |world| world.rows.narinfos.contains(&path)) {
            Call::Answered(known) => known,
            // It stays behind until the next session.
            Call::Failed => return,
        };
        let edge = &mut self.edges[which];
        match known && edge.disk.contains(&path) {
            true => edge.narinfos.insert(path),
            false => edge.narinfos.remove(&path),
        };
        edge.dialogue.agrees(super::model::hash(path));
    }

    /// A client asks for a path.
    pub(super) fn asks(&mut self, which: usize, path: Path) {
        if !self.edges[which].is_up || self.edges[which].fetches(path) {
            return;
        }
        if !self.edges[which].near.contains(&path) {
            let known = self.call(which, |world| {
                if path >= FIRST_UPSTREAM && !world.rows.narinfos.contains(&path) {
                    world.rows.publish(path);
                    world.purged.remove(&path);
                    world.tell(format_args!("{path} is published"));
                }
                world.rows.narinfos.contains(&path)
            });
            match known {
                Call::Answered(true) => drop(self.edges[which].near.insert(path)),
                Call::Answered(false) | Call::Failed => return,
            }
        }
        if !self.edges[which].disk.contains(&path) {
            self.purged.remove(&path);
            self.edges[which].tasks.push(Task::Fetch { path, has_turn: false, removed: false });
        }
    }

    fn fetches(&mut self, which: usize, path: Path, has_turn: bool, removed: bool) {
        let name = self.names.file(path);
        if !has_turn {
            let (instance, now) = (self.edges[which].instance.clone(), self.instant());
            let turn = self.call(which, |world| world.fleet().begin(&instance, name, &[], now));
            // Without control it is fetched without a turn.
            let has_turn = !matches!(turn, Call::Answered(Turn::Theirs(..)));
            return self.edges[which].tasks.push(Task::Fetch { path, has_turn, removed });
        }
        let is_at_a_peer = |edge: &Edge| edge.is_up && edge.disk.contains(&path);
        let comes = path >= FIRST_UPSTREAM || self.edges.iter().any(is_at_a_peer);
        if !comes || removed || self.random.once_in(8) {
            let instance = self.edges[which].instance.clone();
            let _ = self.call(which, |world| world.fleet().end_turn(&instance, name));
            return;
        }
        self.stores(which, path);
        self.edges[which].tasks.push(Task::Announce(path));
    }

    fn stores(&mut self, which: usize, path: Path) {
        let edge = &mut self.edges[which];
        edge.disk.insert(path);
        edge.dialogue.changed(self.names.file(path));
        self.tell(format_args!("edge {which} has {path}"));
    }

    fn announces(&mut self, which: usize, path: Path) {
        if !self.edges[which].disk.contains(&path) {
            return;
        }
        match self.commit(which, path, false) {
            Call::Answered(known) => {
                let edge = &mut self.edges[which];
                if known && edge.disk.contains(&path) {
                    edge.narinfos.insert(path);
                }
            }
            Call::Failed => self.edges[which].pending.push(path),
        }
    }

    /// Control is told of a commit. Says whether a narinfo names the file.
    fn commit(&mut self, which: usize, path: Path, uploaded: bool) -> Call<bool> {
        let (instance, name) = (self.edges[which].instance.clone(), self.names.file(path));
        let today = self.today();
        let answer = self.call(which, |world| {
            if uploaded && world.fleet().is_leaving(&instance, name) {
                return None;
            }
            if uploaded {
                world.rows.uploads.insert(path);
            }
            world.fleet().end_turn(&instance, name);
            let standing = world.rows.standing(path);
            world.fleet().announced(&instance, name, 4096, standing, today);
            Some(world.rows.narinfos.contains(&path))
        });
        self.edges[which].dialogue.changed(name);
        match answer {
            Call::Answered(Some(known)) => Call::Answered(known),
            Call::Answered(None) | Call::Failed => Call::Failed,
        }
    }

    fn uploads(&mut self, which: usize, path: Path, stored: bool) {
        if !stored {
            self.stores(which, path);
            if let Call::Answered(_) = self.commit(which, path, true) {
                self.edges[which].tasks.push(Task::Upload { path, stored: true });
            }
            return;
        }
        if !self.edges[which].disk.contains(&path) {
            return;
        }
        let instance = self.edges[which].instance.clone();
        let published = self.call(which, |world| {
            let name = world.names.file(path);
            let rests = world.fleet().keeps(&instance) || world.fleet().is_kept(name);
            let is_known =
                rests && world.rows.uploads.contains(&path) && !world.fleet().is_leaving(&instance, name);
            if is_known {
                let (standing, today) = (world.rows.standing(path), world.today());
                world.fleet().announced(&instance, name, 4096, standing, today);
                world.rows.publish(path);
                world.weigh(world.names.file(path));
                world.invalidate(path);
            }
            is_known
        });
        if let Call::Answered(true) = published {
            self.edges[which].narinfos.insert(path);
            self.acknowledged.insert(path);
            self.tell(format_args!("the upload of {path} to edge {which} is acknowledged"));
        }
    }

    /// A call to control: lost on the way, done though it failed, or done twice.
    fn call<T>(&mut self, which: usize, mut done: impl FnMut(&mut World) -> T) -> Call<T> {
        let edge = &self.edges[which];
        if self.control.is_none() || edge.is_cut_off {
            return Call::Failed;
        }
        let luck = if self.is_quiet { usize::MAX } else { self.random.below(16) };
        if luck == 0 {
            return Call::Failed;
        }
        let answer = done(self);
        let answer = if luck == 1 { done(self) } else { answer };
        self.carry_out();
        if luck == 2 { Call::Failed } else { Call::Answered(answer) }
    }
}

fn what(effect: &Effect) -> String {
    match effect {
        Effect::Begin { behind, .. } => format!("the configuration, {} narinfos are behind", behind.len()),
        Effect::Forget(paths) => format!("that {:?} changed", paths.iter().map(path_of).collect::<Vec<_>>()),
        Effect::Evict { ticket, victims } => format!("that {} files make room: {ticket:?}", victims.len()),
        Effect::Remove { ticket, store_paths, .. } => {
            format!("that {:?} go: {ticket:?}", store_paths.iter().map(path_of).collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    }
}
