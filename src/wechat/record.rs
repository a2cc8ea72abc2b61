//! Typed values out of elements: one declaration of a message, an event or a nested structure gives
//! its struct, its reader, its JSON with WeChat's names and the list of its fields.
//!
//! What a field may be is its type: `T` must be there, `Option<T>` may be, `Vec<T>` repeats. All take
//! CDATA and bare text alike, since the platform is not constant in that.

use std::str::FromStr;

use super::id::{AppId, MsgId, OpenId, UnionId};
use super::xml::Element;

/// Why an element is not what it was declared to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A field that must not repeat does.
    Duplicate(&'static str),
    /// A field that must be there is not.
    Missing(&'static str),
    /// A field's text is not of its type.
    Malformed(&'static str),
}

/// A struct that is read out of the children of an element.
pub(crate) trait Record: Sized {
    /// WeChat's names of the fields.
    const FIELDS: &'static [&'static str];
    /// Whether the names are compared without regard to case.
    const ANY_CASE: bool;

    /// Reads the children of `parent`. Those of other names are ignored.
    fn read(parent: &Element<'_>) -> Result<Self, Fault>;

    /// The declared name that `name` stands for.
    fn canonical(name: &str) -> Option<&'static str> {
        let is_same = |field: &&&str| {
            if Self::ANY_CASE {
                field.eq_ignore_ascii_case(name)
            } else {
                **field == name
            }
        };
        Self::FIELDS.iter().find(is_same).copied()
    }
}

/// What the text of one element can be.
pub(crate) trait Value: Sized {
    /// Whether an optional field with nothing in it counts as absent.
    const EMPTY_IS_ABSENT: bool = true;

    /// Reads one element.
    fn read(element: &Element<'_>, name: &'static str) -> Result<Self, Fault>;
}

/// A field of a record: a value, an optional one or a repeated one.
pub(crate) trait Slot: Sized {
    /// The elements of the field's name, before they are read.
    type Found<'e>: Default;

    /// Takes one more element of the field's name.
    fn put<'e>(
        found: &mut Self::Found<'e>,
        name: &'static str,
        element: &'e Element<'e>,
    ) -> Result<(), Fault>;

    /// Reads what was found.
    fn read(found: Self::Found<'_>, name: &'static str) -> Result<Self, Fault>;

    /// Whether JSON leaves the field out.
    fn is_absent(&self) -> bool {
        false
    }
}

impl<T: Value> Slot for T {
    type Found<'e> = Option<&'e Element<'e>>;

    fn put<'e>(
        found: &mut Self::Found<'e>,
        name: &'static str,
        element: &'e Element<'e>,
    ) -> Result<(), Fault> {
        put_once(found, name, element)
    }

    fn read(found: Self::Found<'_>, name: &'static str) -> Result<Self, Fault> {
        T::read(found.ok_or(Fault::Missing(name))?, name)
    }
}

impl<T: Value> Slot for Option<T> {
    type Found<'e> = Option<&'e Element<'e>>;

    fn put<'e>(
        found: &mut Self::Found<'e>,
        name: &'static str,
        element: &'e Element<'e>,
    ) -> Result<(), Fault> {
        put_once(found, name, element)
    }

    fn read(found: Self::Found<'_>, name: &'static str) -> Result<Self, Fault> {
        found
            .filter(|element| !(T::EMPTY_IS_ABSENT && element.text.trim().is_empty()))
            .map(|element| T::read(element, name))
            .transpose()
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: Value> Slot for Vec<T> {
    type Found<'e> = Vec<&'e Element<'e>>;

    fn put<'e>(
        found: &mut Self::Found<'e>,
        _name: &'static str,
        element: &'e Element<'e>,
    ) -> Result<(), Fault> {
        found.push(element);
        Ok(())
    }

    fn read(found: Self::Found<'_>, name: &'static str) -> Result<Self, Fault> {
        found
            .into_iter()
            .map(|element| T::read(element, name))
            .collect()
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

fn put_once<'e>(
    found: &mut Option<&'e Element<'e>>,
    name: &'static str,
    element: &'e Element<'e>,
) -> Result<(), Fault> {
    match found.replace(element) {
        None => Ok(()),
        Some(_) => Err(Fault::Duplicate(name)),
    }
}

impl Value for String {
    const EMPTY_IS_ABSENT: bool = false;

    fn read(element: &Element<'_>, _name: &'static str) -> Result<Self, Fault> {
        Ok(element.text.clone().into_owned())
    }
}

impl Value for f64 {
    fn read(element: &Element<'_>, name: &'static str) -> Result<Self, Fault> {
        // Rust would read `inf` and `nan` too, which JSON cannot say.
        let number = element.text.trim().parse().ok();
        number
            .filter(|number: &f64| number.is_finite())
            .ok_or(Fault::Malformed(name))
    }
}

macro_rules! parsed {
    ($parse:ident: $($Type:ty),+) => {$(
        impl Value for $Type {
            fn read(element: &Element<'_>, name: &'static str) -> Result<Self, Fault> {
                <$Type>::$parse(element.text.trim()).map_err(|_| Fault::Malformed(name))
            }
        }
    )+};
}

parsed!(from_str: i64, u64, u32);
parsed!(parse: MsgId, OpenId, UnionId, AppId);

/// Declares records.
///
/// - `pub struct Name { field: Type = "WeChatName", … }`, any number of them: nested structures.
/// - `pub enum Name { Variant = "wire name" { fields } … }`: a struct for each variant and the enum
///   over them, told apart by the wire name. `any_case` after the wire name: the fields' names are
///   compared without regard to case. `others { Variant(inner: Type) => name, … }` adds variants that
///   are made elsewhere.
macro_rules! records {
    ($(
        $(#[$meta:meta])*
        pub struct $Name:ident { $($fields:tt)* }
    )+) => {$(
        $crate::wechat::record::records! { @struct [$(#[$meta])*] $Name, false, { $($fields)* } }

        impl $crate::wechat::record::Value for $Name {
            const EMPTY_IS_ABSENT: bool = false;

            fn read(
                element: &$crate::wechat::xml::Element<'_>,
                _name: &'static str,
            ) -> Result<Self, $crate::wechat::record::Fault> {
                <Self as $crate::wechat::record::Record>::read(element)
            }
        }
    )+};

    (
        $(#[$meta:meta])*
        pub enum $Enum:ident {
            $(
                $(#[$variant_meta:meta])*
                $Variant:ident = $wire:literal $($case:ident)? { $($fields:tt)* }
            )+
        }
        $(others {
            $($(#[$other_meta:meta])* $Other:ident($inner:ident: $Inner:ty) => $name:expr,)+
        })?
    ) => {
        $(
            $crate::wechat::record::records! {
                @struct [$(#[$variant_meta])*] $Variant,
                $crate::wechat::record::records!(@any_case $($case)?),
                { $($fields)* }
            }

            impl $crate::wechat::message::Typed for $Variant {
                const NAME: &'static str = $wire;

                fn of(message: &$crate::wechat::message::Message) -> Option<&Self> {
                    match $Enum::of(message)? {
                        $Enum::$Variant(value) => Some(value),
                        _ => None,
                    }
                }
            }
        )+

        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        #[serde(untagged)]
        pub enum $Enum {
            $($(#[$variant_meta])* $Variant($Variant),)+
            $($($(#[$other_meta])* $Other($Inner),)+)?
        }

        impl $Enum {
            /// Reads the variant of that wire name, `None` where none is declared.
            pub(crate) fn read(
                wire_name: &str,
                root: &$crate::wechat::xml::Element<'_>,
            ) -> Option<Result<Self, $crate::wechat::record::Fault>> {
                use $crate::wechat::record::Record;
                match wire_name {
                    $($wire => Some($Variant::read(root).map(Self::$Variant)),)+
                    _ => None,
                }
            }

            /// WeChat's name of this variant.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$Variant(_) => $wire,)+
                    $($(Self::$Other($inner) => $name,)+)?
                }
            }

            /// WeChat's names of all variants that are declared.
            pub(crate) const NAMES: &'static [&'static str] = &[$($wire),+];

            /// WeChat's names of the fields of all variants, each as often as it is declared.
            pub(crate) fn all_fields() -> impl Iterator<Item = &'static str> {
                use $crate::wechat::record::Record;
                [$($Variant::FIELDS),+].into_iter().flatten().copied()
            }

            /// The declared field that an element's name stands for.
            pub(crate) fn field(&self, name: &str) -> Option<&'static str> {
                use $crate::wechat::record::Record;
                match self {
                    $(Self::$Variant(_) => $Variant::canonical(name),)+
                    $($(Self::$Other(_) => None,)+)?
                }
            }
        }
    };

    (@any_case) => { false };
    (@any_case any_case) => { true };

    (@struct [$(#[$meta:meta])*] $Name:ident, $any_case:expr, {
        $($(#[$field_meta:meta])* $field:ident: $Type:ty = $wire:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        pub struct $Name {
            $(
                #[doc = concat!("`", $wire, "`.")]
                $(#[$field_meta])*
                #[serde(
                    rename = $wire,
                    skip_serializing_if = "crate::wechat::record::Slot::is_absent"
                )]
                pub $field: $Type,
            )*
        }

        impl $crate::wechat::record::Record for $Name {
            const FIELDS: &'static [&'static str] = &[$($wire),*];
            const ANY_CASE: bool = $any_case;

            fn read(
                parent: &$crate::wechat::xml::Element<'_>,
            ) -> Result<Self, $crate::wechat::record::Fault> {
                use $crate::wechat::record::Slot;
                $(let mut $field = <$Type as Slot>::Found::default();)*
                for child in &parent.children {
                    let name = if Self::ANY_CASE {
                        Self::canonical(&child.name).unwrap_or_default()
                    } else {
                        &child.name
                    };
                    match name {
                        $($wire => <$Type as Slot>::put(&mut $field, $wire, child)?,)*
                        _ => {}
                    }
                }
                Ok(Self { $($field: <$Type as Slot>::read($field, $wire)?,)* })
            }
        }
    };
}

pub(crate) use records;
