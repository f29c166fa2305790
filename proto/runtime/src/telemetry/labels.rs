//! Labels whose values are known beforehand: enums. A counter over them is an array, so counting needs no
//! look-up, and every series is there from the start.

use opentelemetry::KeyValue;

/// A label, or several, with a known set of values. Made by [`label!`](crate::label); pairs are made of two.
pub trait Labels: Copy + Send + Sync + 'static {
    /// How many values there are.
    const COUNT: usize;

    /// The names of the labels.
    fn names() -> Vec<&'static str>;
    /// Every value, in the order of their indices.
    fn all() -> Vec<Self>;
    /// The place of this value among [`Labels::all`].
    fn index(self) -> usize;
    /// The text of each label.
    fn values(self) -> Vec<&'static str>;

    /// What is reported.
    fn pairs(self) -> Vec<KeyValue> {
        Self::names().into_iter().zip(self.values()).map(|(name, value)| KeyValue::new(name, value)).collect()
    }
}

/// No label.
impl Labels for () {
    const COUNT: usize = 1;

    fn names() -> Vec<&'static str> {
        Vec::new()
    }

    fn all() -> Vec<Self> {
        vec![()]
    }

    fn index(self) -> usize {
        0
    }

    fn values(self) -> Vec<&'static str> {
        Vec::new()
    }
}

impl<A: Labels, B: Labels> Labels for (A, B) {
    const COUNT: usize = A::COUNT * B::COUNT;

    fn names() -> Vec<&'static str> {
        [A::names(), B::names()].concat()
    }

    fn all() -> Vec<Self> {
        A::all().into_iter().flat_map(|a| B::all().into_iter().map(move |b| (a, b))).collect()
    }

    fn index(self) -> usize {
        self.0.index() * B::COUNT + self.1.index()
    }

    fn values(self) -> Vec<&'static str> {
        [self.0.values(), self.1.values()].concat()
    }

    fn pairs(self) -> Vec<KeyValue> {
        [self.0.pairs(), self.1.pairs()].concat()
    }
}

/// An enum that is a label: `label! { pub enum Kind in "kind" { Nar = "nar", NarInfo = "narinfo" } }`.
#[macro_export]
macro_rules! label {
    ($(#[$about:meta])* $vis:vis enum $name:ident in $label:literal {
        $($(#[$what:meta])* $variant:ident = $value:literal),+ $(,)?
    }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name { $($(#[$what])* $variant),+ }

        impl $crate::telemetry::Labels for $name {
            const COUNT: usize = [$(Self::$variant),+].len();

            fn names() -> Vec<&'static str> {
                vec![$label]
            }

            fn all() -> Vec<Self> {
                vec![$(Self::$variant),+]
            }

            fn index(self) -> usize {
                self as usize
            }

            fn values(self) -> Vec<&'static str> {
                vec![match self { $(Self::$variant => $value),+ }]
            }
        }
    };
}
