//! The words of an e-mail, per language. A new language is one more table here.

use serde::Serialize;

/// What the e-mail says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Notice {
    Confirmed,
    Updated,
    Declined,
}

/// `{order}` stands for the order's id, `{name}` for the customer's name.
pub(crate) struct Language {
    pub(crate) code: &'static str,
    subjects: Texts,
    leads: Texts,
    pub(crate) greeting: &'static str,
    /// For a customer whose name isn't known.
    pub(crate) nameless_greeting: &'static str,
    over_limit: &'static str,
    card_declined: &'static str,
    pub(crate) total: &'static str,
    pub(crate) transaction: &'static str,
}

struct Texts {
    confirmed: &'static str,
    updated: &'static str,
    declined: &'static str,
}

impl Texts {
    fn of(&self, notice: Notice) -> &'static str {
        match notice {
            Notice::Confirmed => self.confirmed,
            Notice::Updated => self.updated,
            Notice::Declined => self.declined,
        }
    }
}

impl Language {
    /// By the primary subtag of a BCP 47 tag: `de-AT` is `de`. English when there is none or another one.
    pub(crate) fn of(tag: Option<&str>) -> &'static Self {
        let code = tag.and_then(|tag| tag.split(['-', '_']).next()).unwrap_or_default();
        LANGUAGES.iter().find(|language| language.code.eq_ignore_ascii_case(code)).unwrap_or(&LANGUAGES[0])
    }

    pub(crate) fn subject(&self, notice: Notice, order_id: &str) -> String {
        self.subjects.of(notice).replace("{order}", order_id)
    }

    pub(crate) fn lead(&self, notice: Notice) -> &'static str {
        self.leads.of(notice)
    }

    /// Nothing for a reason that has no text: the lead says enough.
    pub(crate) fn decline_reason(&self, reason: Option<&str>) -> Option<&'static str> {
        match reason? {
            "over_limit" => Some(self.over_limit),
            "card_declined" => Some(self.card_declined),
            _ => None,
        }
    }
}

/// English first: it is the fallback.
static LANGUAGES: [Language; 4] = [
    Language {
        code: "en",
        subjects: Texts {
            confirmed: "Your order {order} is confirmed",
            updated: "Your order {order} has been updated",
            declined: "Your order {order} could not be paid",
        },
        leads: Texts {
            confirmed: "Thank you for your order. Your payment went through.",
            updated: "We have changed your order. This is how it stands now:",
            declined: "We could not take the payment for your order, so we have not accepted it.",
        },
        greeting: "Hello {name},",
        nameless_greeting: "Hello,",
        over_limit: "The total is over the limit for a single payment.",
        card_declined: "Your card was declined.",
        total: "Total",
        transaction: "Transaction",
    },
    Language {
        code: "de",
        subjects: Texts {
            confirmed: "Ihre Bestellung {order} ist bestätigt",
            updated: "Ihre Bestellung {order} wurde geändert",
            declined: "Ihre Bestellung {order} konnte nicht bezahlt werden",
        },
        leads: Texts {
            confirmed: "Vielen Dank für Ihre Bestellung. Ihre Zahlung ist eingegangen.",
            updated: "Wir haben Ihre Bestellung geändert. Das ist der neue Stand:",
            declined: "Die Zahlung ist fehlgeschlagen, deshalb haben wir Ihre Bestellung nicht angenommen.",
        },
        greeting: "Guten Tag {name},",
        nameless_greeting: "Guten Tag,",
        over_limit: "Der Betrag liegt über der Grenze für eine einzelne Zahlung.",
        card_declined: "Ihre Karte wurde abgelehnt.",
        total: "Summe",
        transaction: "Vorgang",
    },
    Language {
        code: "fr",
        subjects: Texts {
            confirmed: "Votre commande {order} est confirmée",
            updated: "Votre commande {order} a été modifiée",
            declined: "Votre commande {order} n'a pas pu être payée",
        },
        leads: Texts {
            confirmed: "Merci pour votre commande. Votre paiement a été accepté.",
            updated: "Nous avons modifié votre commande. La voici à jour :",
            declined: "Le paiement a échoué : nous n'avons donc pas accepté votre commande.",
        },
        greeting: "Bonjour {name},",
        nameless_greeting: "Bonjour,",
        over_limit: "Le montant dépasse la limite d'un paiement unique.",
        card_declined: "Votre carte a été refusée.",
        total: "Total",
        transaction: "Transaction",
    },
    Language {
        code: "es",
        subjects: Texts {
            confirmed: "Su pedido {order} está confirmado",
            updated: "Su pedido {order} ha sido modificado",
            declined: "No se pudo cobrar su pedido {order}",
        },
        leads: Texts {
            confirmed: "Gracias por su pedido. Hemos recibido su pago.",
            updated: "Hemos modificado su pedido. Así queda ahora:",
            declined: "El pago ha fallado, por lo que no hemos aceptado su pedido.",
        },
        greeting: "Hola, {name}:",
        nameless_greeting: "Hola:",
        over_limit: "El importe supera el límite de un solo pago.",
        card_declined: "Su tarjeta ha sido rechazada.",
        total: "Total",
        transaction: "Transacción",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_matched_by_its_first_part_in_any_case() {
        for (tag, code) in [("de", "de"), ("de-AT", "de"), ("FR_ca", "fr"), ("es", "es"), ("en-GB", "en")] {
            assert_eq!(Language::of(Some(tag)).code, code);
        }
    }

    #[test]
    fn an_unknown_or_absent_language_is_english() {
        for tag in [None, Some(""), Some("tlh"), Some("deutsch"), Some("-de")] {
            assert_eq!(Language::of(tag).code, "en");
        }
    }

    #[test]
    fn every_language_names_the_order_in_every_subject_and_the_customer_in_its_greeting() {
        for language in &LANGUAGES {
            for notice in [Notice::Confirmed, Notice::Updated, Notice::Declined] {
                assert!(language.subject(notice, "o-1").contains("o-1"), "{} {notice:?}", language.code);
                assert!(!language.lead(notice).is_empty());
            }
            assert!(language.greeting.contains("{name}"));
        }
    }
}
