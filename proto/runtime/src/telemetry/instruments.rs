//! What the parts of a process count with. Counters and gauges are atomics that are looked at when somebody
//! collects; histograms have their labels made beforehand. So nothing is allocated where something is measured.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};

use super::{Kind, Labels, Metric, Telemetry};

/// Takes what is observed: a number and its labels.
pub type Seen<'a> = &'a mut dyn FnMut(u64, &[KeyValue]);

/// Numbers that only ever grow, one per value of the labels.
pub struct Counters<L> {
    cells: Box<[AtomicU64]>,
    labels: PhantomData<fn(L)>,
}

impl<L: Labels> Default for Counters<L> {
    fn default() -> Self {
        Self { cells: (0..L::COUNT).map(|_| AtomicU64::new(0)).collect(), labels: PhantomData }
    }
}

impl<L: Labels> Counters<L> {
    /// One more.
    pub fn inc(&self, labels: L) {
        self.add(labels, 1);
    }

    /// So many more.
    pub fn add(&self, labels: L, more: u64) {
        self.cells[labels.index()].fetch_add(more, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self, labels: L) -> u64 {
        self.cells[labels.index()].load(Ordering::Relaxed)
    }
}

/// Numbers that grow and shrink, one per value of the labels.
pub struct Gauges<L> {
    cells: Box<[AtomicI64]>,
    labels: PhantomData<fn(L)>,
}

impl<L: Labels> Default for Gauges<L> {
    fn default() -> Self {
        Self { cells: (0..L::COUNT).map(|_| AtomicI64::new(0)).collect(), labels: PhantomData }
    }
}

impl<L: Labels> Gauges<L> {
    /// More, or less.
    pub fn add(&self, labels: L, more: i64) {
        self.cells[labels.index()].fetch_add(more, Ordering::Relaxed);
    }

    /// From now on this.
    pub fn set(&self, labels: L, value: u64) {
        self.cells[labels.index()].store(i64::try_from(value).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// What it is now. Additions may overtake each other; below zero is zero.
    pub fn get(&self, labels: L) -> u64 {
        u64::try_from(self.cells[labels.index()].load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// One more until the guard is dropped.
    pub fn enter(self: &Arc<Self>, labels: L) -> impl Send + Sync + use<L> {
        self.add(labels, 1);
        Entered { gauges: Arc::clone(self), labels }
    }
}

struct Entered<L: Labels> {
    gauges: Arc<Gauges<L>>,
    labels: L,
}

impl<L: Labels> Drop for Entered<L> {
    fn drop(&mut self) {
        self.gauges.add(self.labels, -1);
    }
}

/// A distribution with fixed labels.
#[derive(Clone)]
pub struct Histogram {
    inner: Option<opentelemetry::metrics::Histogram<f64>>,
    labels: Arc<[KeyValue]>,
}

impl Histogram {
    /// One value more.
    pub fn record(&self, value: f64) {
        if let Some(inner) = &self.inner {
            inner.record(value, &self.labels);
        }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram").field("labels", &self.labels).finish_non_exhaustive()
    }
}

/// Distributions, one per value of the labels.
pub struct Histograms<L> {
    cells: Box<[Histogram]>,
    labels: PhantomData<fn(L)>,
}

impl<L: Labels> Histograms<L> {
    /// One value more.
    pub fn record(&self, labels: L, value: f64) {
        self.cells[labels.index()].record(value);
    }
}

impl Telemetry {
    /// Counters of a metric, all series present from now on.
    #[must_use]
    pub fn counters<L: Labels>(&self, metric: &'static Metric) -> Arc<Counters<L>> {
        debug_assert_eq!(metric.labels, L::names(), "{}", metric.name);
        let counters = Arc::new(Counters::default());
        let (looked_at, series) = (Arc::clone(&counters), series::<L>());
        self.observe(metric, move |seen| {
            series.iter().for_each(|(labels, pairs)| seen(looked_at.get(*labels), pairs));
        });
        counters
    }

    /// Gauges of a metric, all series present from now on.
    #[must_use]
    pub fn gauges<L: Labels>(&self, metric: &'static Metric) -> Arc<Gauges<L>> {
        debug_assert_eq!(metric.labels, L::names(), "{}", metric.name);
        let gauges = Arc::new(Gauges::default());
        let (looked_at, series) = (Arc::clone(&gauges), series::<L>());
        self.observe(metric, move |seen| {
            series.iter().for_each(|(labels, pairs)| seen(looked_at.get(*labels), pairs));
        });
        gauges
    }

    /// Distributions of a metric; a series appears with its first value.
    #[must_use]
    pub fn histograms<L: Labels>(&self, metric: &'static Metric) -> Histograms<L> {
        let family = self.histogram_family(metric);
        let cells = L::all().into_iter().map(|labels| family(labels.pairs())).collect();
        Histograms { cells, labels: PhantomData }
    }

    /// Makes distributions of a metric for labels that are known later.
    pub fn histogram_family(&self, metric: &'static Metric) -> impl Fn(Vec<KeyValue>) -> Histogram + use<> {
        let inner = self.meter().map(|meter| histogram(meter, metric));
        move |labels| Histogram { inner: inner.clone(), labels: labels.into() }
    }

    /// A gauge of fractions that is looked at when somebody collects.
    pub fn observe_ratio(
        &self,
        metric: &'static Metric,
        look: impl Fn(&mut dyn FnMut(f64, &[KeyValue])) + Send + Sync + 'static,
    ) {
        let Some(meter) = self.meter() else { return };
        debug_assert_eq!(metric.kind, Kind::Gauge, "{} is no gauge", metric.name);
        let see = move |instrument: &dyn AsyncInstrument<f64>| {
            look(&mut |value, labels| instrument.observe(value, labels));
        };
        let Metric { name, unit, help, .. } = *metric;
        let builder = meter.f64_observable_gauge(name).with_unit(unit).with_description(help);
        builder.with_callback(see).build();
    }

    /// Numbers that are looked at when somebody collects: a counter or a gauge, as the dictionary says.
    pub fn observe(&self, metric: &'static Metric, look: impl Fn(Seen<'_>) + Send + Sync + 'static) {
        let Some(meter) = self.meter() else { return };
        let see = move |instrument: &dyn AsyncInstrument<u64>| {
            look(&mut |value, labels| instrument.observe(value, labels));
        };
        let Metric { name, unit, help, .. } = *metric;
        match metric.kind {
            Kind::Counter => {
                let builder = meter.u64_observable_counter(name).with_unit(unit).with_description(help);
                builder.with_callback(see).build();
            }
            Kind::Gauge => {
                let builder = meter.u64_observable_gauge(name).with_unit(unit).with_description(help);
                builder.with_callback(see).build();
            }
            Kind::Histogram(_) => debug_assert!(false, "{name} is a histogram: nothing to look at"),
        }
    }
}

fn series<L: Labels>() -> Vec<(L, Vec<KeyValue>)> {
    L::all().into_iter().map(|labels| (labels, labels.pairs())).collect()
}

fn histogram(meter: &Meter, metric: &'static Metric) -> opentelemetry::metrics::Histogram<f64> {
    let Metric { name, unit, help, kind, .. } = *metric;
    let builder = meter.f64_histogram(name).with_unit(unit).with_description(help);
    match kind {
        Kind::Histogram(bounds) => builder.with_boundaries(bounds.to_vec()).build(),
        Kind::Counter | Kind::Gauge => {
            debug_assert!(false, "{name} is no histogram");
            builder.build()
        }
    }
}
