//! Words for the variants of an enum.

/// Gives each variant a word, and lists the words. A variant without a word does not compile, so
/// the list is complete.
macro_rules! words {
    (
        $(#[$of_list:meta])* pub const $list:ident;
        $(#[$of_word:meta])* $vis:vis fn $word:ident;
        $($variant:ident => $text:literal,)+
    ) => {
        $(#[$of_list])*
        pub const $list: &[&str] = &[$($text),+];

        $(#[$of_word])*
        $vis fn $word(&self) -> &'static str {
            match self {
                $(Self::$variant { .. } => $text,)+
            }
        }
    };
}

pub(crate) use words;
