//! Positions and queries: nothing in them breaks anything, and what is given is what is read.

use proptest::{collection::vec, prelude::*};
use video_notifier::{
    position::{Epoch, MAX_OFFSET, MAX_POSITION_LENGTH, Position},
    region::Regions,
    transport::{SubscriptionQuery, parameter},
};

use crate::{config, mutated};

const POSITIONS: &str = include_str!("corpus/positions.txt");
const QUERIES: &str = include_str!("corpus/queries.txt");

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn a_position_is_read_as_it_was_printed(seed in any::<u64>(), offset in 0..=MAX_OFFSET) {
        let position = Position { epoch: Epoch::from_seed(seed), offset };
        let text = position.to_string();
        prop_assert!(text.len() <= MAX_POSITION_LENGTH);
        prop_assert_eq!(text.parse(), Ok(position));
    }

    #[test]
    fn what_reads_as_a_position_prints_so_again(text in mutated(POSITIONS)) {
        let text = String::from_utf8_lossy(&text);
        if let Ok(position) = text.parse::<Position>() {
            prop_assert_eq!(position.to_string(), text);
            prop_assert!(position.offset <= MAX_OFFSET);
        }
    }

    #[test]
    fn no_query_breaks_anything(query in mutated(QUERIES)) {
        let query = String::from_utf8_lossy(&query);
        let SubscriptionQuery { regions, .. } = SubscriptionQuery::parse(Some(&query));
        if let Ok(Regions::Only(names)) = regions {
            prop_assert!((1..=Regions::MAX).contains(&names.len()));
            prop_assert!((1..names.len()).all(|at| !names[..at].contains(&names[at])), "one twice: {:?}", names);
        }
    }

    #[test]
    fn a_parameter_comes_through_whatever_it_holds_and_the_first_counts(
        pairs in vec(("[a-c]", any::<String>()), 0..6),
        name in "[a-c]",
    ) {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
        let given = pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
        prop_assert_eq!(parameter(Some(&query), &name), given);
    }
}
