//! Positions and queries: nothing in them breaks anything, and what is given is what is read.

use proptest::{collection::vec, prelude::*};
use video_notifier::{
    position::{Epoch, MAX_OFFSET, MAX_POSITION_LENGTH, Position},
    transport::parameter,
};

use crate::{checks, config, mutated};

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
    fn a_text_is_read_as_a_position_exactly_where_it_is_written_as_one(text in mutated(POSITIONS)) {
        checks::position(&String::from_utf8_lossy(&text));
    }

    #[test]
    fn no_query_breaks_anything(query in mutated(QUERIES)) {
        checks::query(&String::from_utf8_lossy(&query));
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
