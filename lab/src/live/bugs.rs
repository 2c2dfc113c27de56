//! Known bugs that a page can switch on, in a program that was built with them.

#[cfg(feature = "mutants")]
pub(super) use with::{Active, activate, all, find};
#[cfg(not(feature = "mutants"))]
pub(super) use without::{Active, activate, all, find};

#[cfg(feature = "mutants")]
mod with {
    use quorate_netsim::mutants::{self, Mutant};

    /// A bug that is switched on, for the nodes of this thread.
    pub(crate) struct Active {
        mutant: Mutant,
        _guard: mutants::Active,
    }

    impl Active {
        pub(crate) fn name(&self) -> String {
            self.mutant.to_string()
        }
    }

    fn known() -> impl Iterator<Item = Mutant> {
        let elsewhere = [Mutant::OF_REPLICAS, Mutant::OF_LEADERS].concat();
        Mutant::ALL.iter().copied().filter(move |mutant| !elsewhere.contains(mutant))
    }

    pub(crate) fn all() -> Vec<(String, &'static str)> {
        known().map(|mutant| (mutant.to_string(), mutant.what())).collect()
    }

    pub(crate) fn find(name: &str) -> Result<Mutant, String> {
        let mutant = known().find(|mutant| mutant.to_string() == name);
        mutant.ok_or_else(|| format!("no known bug is called {name}"))
    }

    pub(crate) fn activate(mutant: Mutant) -> Active {
        Active { mutant, _guard: mutant.activate() }
    }
}

#[cfg(not(feature = "mutants"))]
mod without {
    pub(crate) enum Active {}

    impl Active {
        pub(crate) fn name(&self) -> String {
            match *self {}
        }
    }

    pub(crate) fn all() -> Vec<(String, &'static str)> {
        Vec::new()
    }

    pub(crate) fn find(_: &str) -> Result<Active, String> {
        Err("this program was built without the known bugs".to_owned())
    }

    pub(crate) fn activate(never: Active) -> Active {
        never
    }
}
