//! The world of one seed: who is there, what happens next, and the quiet at the end.

use std::collections::BTreeSet;
use std::fmt::Arguments;
use std::time::{Duration, Instant};

use ncps_control::fleet::SessionId;
use ncps_proto::EdgeSettings;
use ncps_runtime::clock::UnixTime;

use super::Defect;
use super::check::Broken;
use super::control::Control;
use super::edge::{Edge, Task};
use super::link::Link;
use super::model::{FIRST_UPSTREAM, Names, PATHS, Path, Rows};
use super::random::Random;

/// Steps before the quiet.
const STEPS: usize = 300;
/// Rounds in which everything has to come to rest.
const ROUNDS: usize = 200;

/// Everything that there is.
#[derive(Debug)]
pub struct World {
    pub(super) seed: u64,
    pub(super) random: Random,
    pub(super) defect: Option<Defect>,
    pub(super) start: Instant,
    /// Since the start.
    pub(super) now: Duration,
    /// Seconds by which control's clock is wrong.
    pub(super) skew: i64,
    pub(super) rows: Rows,
    pub(super) names: Names,
    pub(super) settings: EdgeSettings,
    pub(super) control: Option<Control>,
    pub(super) edges: Vec<Edge>,
    /// Sessions whose edge has left them; control may not have seen it.
    pub(super) open: Vec<SessionId>,
    /// Uploads of which a client was told that they are kept.
    pub(super) acknowledged: BTreeSet<Path>,
    /// Paths that were purged, and that nobody was about to bring or asked for since.
    pub(super) purged: BTreeSet<Path>,
    /// Files that are to make room, by instance, since another edge has them.
    pub(super) spare: BTreeSet<(String, Path)>,
    /// Nothing goes wrong any more.
    pub(super) is_quiet: bool,
    pub(super) runs: u64,
    told: bool,
}

/// The time of day, as control believes it.
pub(super) fn today(now: Duration, skew: i64) -> UnixTime {
    UnixTime(1_000_000 + now.as_secs().cast_signed() + skew)
}

impl World {
    /// The world of a seed. `told`: what happens is printed.
    pub fn new(seed: u64, defect: Option<Defect>, told: bool) -> World {
        let mut random = Random::new(seed);
        let edges = 2 + random.below(2);
        World {
            seed,
            random,
            defect,
            start: Instant::now(),
            now: Duration::ZERO,
            skew: 0,
            rows: Rows::default(),
            names: Names::new(),
            settings: ncps_proto::decode_settings(&[]).expect("what is not said has defaults"),
            control: Some(Control::new(1)),
            edges: (0..edges).map(|n| Edge::new(format!("edge {n}"))).collect(),
            open: Vec::new(),
            acknowledged: BTreeSet::new(),
            purged: BTreeSet::new(),
            spare: BTreeSet::new(),
            is_quiet: false,
            runs: 1,
            told,
        }
    }

    pub(super) fn tell(&self, what: Arguments<'_>) {
        if self.told {
            println!("{:>6} s  {what}", self.now.as_secs());
        }
    }

    /// Lets things happen, then waits until they are over.
    pub(super) fn run(mut self) -> Result<(), Broken> {
        for _ in 0..STEPS {
            self.step()?;
        }
        self.quiet()?;
        self.agrees()
    }

    fn step(&mut self) -> Result<(), Broken> {
        let (some, time) = (self.random.below(self.edges.len()), self.random.below(1500));
        self.passes(Duration::from_millis(time as u64));
        match self.random.below(100) {
            0..16 => while self.speaks(some)? && !self.random.once_in(3) {},
            16..32 => self.arrives_up(some)?,
            32..48 => self.arrives_down(some)?,
            48..66 => self.some_task(some)?,
            66..70 => self.some_control_task()?,
            70..76 => self.attach(some),
            76..78 => self.detach(some),
            78..80 => self.control_sees_an_end()?,
            80..86 => {
                let path = self.some_path();
                self.asks(some, path);
            }
            86..89 => self.upload(some),
            89 | 90 => {
                let files = 1 + self.random.below(2) as u64;
                self.relieve(some, files)?;
            }
            91 => {
                let path = self.some_path();
                self.purge(path);
            }
            92 => self.pin(),
            93 => self.edges[some].dialogue.all_is_due(),
            94..97 => self.goes_wrong(some)?,
            _ => {}
        }
        Ok(())
    }

    fn some_path(&mut self) -> Path {
        self.random.below(PATHS.into()) as Path
    }

    fn upload(&mut self, edge: usize) {
        let path = self.random.below(FIRST_UPSTREAM.into()) as Path;
        if self.edges[edge].is_up {
            self.purged.remove(&path);
            self.edges[edge].tasks.push(Task::Upload { path, stored: false });
        }
    }

    fn pin(&mut self) {
        let path = self.some_path();
        if self.control.is_some() && self.rows.narinfos.contains(&path) && !self.rows.pinned.remove(&path) {
            self.rows.pinned.insert(path);
        }
    }

    fn goes_wrong(&mut self, edge: usize) -> Result<(), Broken> {
        match self.random.below(12) {
            0..4 => {
                self.tell(format_args!("the link of edge {edge} breaks"));
                self.edges[edge].link.iter_mut().for_each(Link::cut);
            }
            4 => self.edges[edge].is_cut_off = !self.edges[edge].is_cut_off,
            5 if self.edges[edge].is_up => {
                self.tell(format_args!("edge {edge} crashes"));
                self.edges[edge].crash();
                self.loses_memory(edge);
            }
            5 | 6 => self.edges[edge].is_up = true,
            7 if self.control.is_some() => self.control_crashes(),
            7 | 8 => self.control_starts(),
            9 => self.skew = self.random.below(20_000) as i64 - 10_000,
            10 => self.loses_a_directive(edge),
            _ if self.random.once_in(4) => self.passes(Duration::from_secs(2000)),
            _ => self.order_times_out(),
        }
        Ok(())
    }

    /// A killed process forgets its session. Control may not have seen the end.
    fn loses_memory(&mut self, edge: usize) {
        let link = self.edges[edge].link.take().filter(|link| link.run == self.runs);
        self.open.extend(link.map(|link| link.session));
        let instance = self.edges[edge].instance.clone();
        self.spare.retain(|(other, _)| *other != instance);
        if self.random.once_in(6) {
            self.tell(format_args!("edge {edge} comes back with another disk"));
            let lost = std::mem::take(&mut self.edges[edge].disk);
            self.edges[edge].narinfos.clear();
            self.edges[edge].instance.push('\'');
            self.acknowledged.retain(|path| !lost.contains(path));
            self.spare.retain(|(_, path)| !lost.contains(path));
        }
    }

    fn control_crashes(&mut self) {
        self.tell(format_args!("control crashes"));
        self.control = None;
        self.open.clear();
        self.edges.iter_mut().filter_map(|edge| edge.link.as_mut()).for_each(Link::cut);
    }

    fn control_starts(&mut self) {
        if self.control.is_none() {
            self.runs += 1;
            self.tell(format_args!("control starts, run {}", self.runs));
            self.control = Some(Control::new(self.runs));
        }
    }

    /// What no transport does, and no edge must believe.
    fn loses_a_directive(&mut self, edge: usize) {
        let Some(link) = &mut self.edges[edge].link else { return };
        let counted = |at: usize| link.down.get(at).is_some_and(|told| told.number > 0);
        // Of what nothing follows nobody misses anything, but the link of which it was the end breaks, too.
        if counted(0) && counted(1) {
            link.down.pop_front();
            self.tell(format_args!("a directive to edge {edge} is lost"));
        }
    }

    fn order_times_out(&mut self) {
        let waiting = self.control.as_ref().map_or(0, |control| control.waiters.len());
        if waiting > 0 {
            let which = self.random.below(waiting);
            self.gives_up(which);
        }
    }

    fn arrives_up(&mut self, edge: usize) -> Result<(), Broken> {
        loop {
            let Some(link) = &mut self.edges[edge].link else { return Ok(()) };
            let (session, is_ours) = (link.session, link.run == self.runs);
            let Some(said) = link.up.pop_front() else { return Ok(()) };
            if is_ours {
                self.control_receives(session, said)?;
            }
            if !self.is_quiet && self.random.once_in(3) {
                return Ok(());
            }
        }
    }

    /// Control sends what waits, or the edge hears what was sent.
    fn arrives_down(&mut self, edge: usize) -> Result<(), Broken> {
        let sends = self.random.once_in(2);
        let Some(link) = &mut self.edges[edge].link else { return Ok(()) };
        let session = link.session;
        if sends
            && !link.broken
            && link.run == self.runs
            && let Some(control) = &mut self.control
        {
            while let Some(told) = control.fleet.next_told(session) {
                link.down.push_back(told);
            }
            return Ok(());
        }
        while !self.random.once_in(3) {
            self.hears(edge)?;
        }
        Ok(())
    }

    fn some_task(&mut self, edge: usize) -> Result<(), Broken> {
        let tasks = self.edges[edge].tasks.len();
        if tasks == 0 {
            return Ok(());
        }
        let task = self.random.below(tasks);
        self.works(edge, task)
    }

    fn some_control_task(&mut self) -> Result<(), Broken> {
        let tasks = self.control.as_ref().map_or(0, |control| control.tasks.len());
        if tasks == 0 {
            return Ok(());
        }
        let task = self.random.below(tasks);
        self.control_works(task)
    }

    fn control_sees_an_end(&mut self) -> Result<(), Broken> {
        if self.open.is_empty() {
            return Ok(());
        }
        let which = self.random.below(self.open.len());
        let session = self.open.swap_remove(which);
        self.control_closes(session)
    }

    /// Nothing goes wrong any more: everything that was begun has to end.
    fn quiet(&mut self) -> Result<(), Broken> {
        self.tell(format_args!("quiet"));
        self.is_quiet = true;
        self.control_starts();
        for edge in 0..self.edges.len() {
            self.edges[edge].is_up = true;
            self.edges[edge].is_cut_off = false;
        }
        for round in 0..ROUNDS {
            if round == ROUNDS / 2 {
                self.all_orders_time_out();
            }
            if self.round()? && self.has_no_waiters() {
                return Ok(());
            }
        }
        Err(self.broken("it does not come to rest".to_owned()))
    }

    fn has_no_waiters(&self) -> bool {
        self.control.as_ref().is_some_and(|control| control.waiters.is_empty())
    }

    fn all_orders_time_out(&mut self) {
        while !self.has_no_waiters() {
            self.gives_up(0);
        }
    }

    /// True where there is nothing left to do.
    fn round(&mut self) -> Result<bool, Broken> {
        self.passes(Duration::from_secs(1));
        let mut rests = true;
        while !self.open.is_empty() {
            self.control_sees_an_end()?;
        }
        for edge in 0..self.edges.len() {
            self.detach(edge);
            rests &= self.edges[edge].link.is_some();
            self.attach(edge);
            while self.speaks(edge)? {
                rests = false;
            }
            while self.edges[edge].link.as_ref().is_some_and(|link| !link.up.is_empty()) {
                self.arrives_up(edge)?;
            }
            rests &= !self.is_told(edge)?;
            for task in (0..self.edges[edge].tasks.len()).rev() {
                rests = false;
                self.works(edge, task)?;
            }
        }
        while self.control.as_ref().is_some_and(|control| !control.tasks.is_empty()) {
            rests = false;
            self.control_works(0)?;
        }
        Ok(rests)
    }

    /// Everything that waits for an edge arrives. True where there was something.
    fn is_told(&mut self, edge: usize) -> Result<bool, Broken> {
        let mut some = false;
        loop {
            let Some(link) = self.edges[edge].link.as_mut().filter(|link| !link.broken) else {
                return Ok(some);
            };
            if let Some(control) = &mut self.control {
                link.down.extend(control.fleet.next_told(link.session));
            }
            if link.down.is_empty() {
                return Ok(some);
            }
            some = true;
            self.hears(edge)?;
        }
    }
}
