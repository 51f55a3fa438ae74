//! What is read, what is refused and how, and that nothing panics whatever is typed.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use rota_engine::command::{Command, Due, NewJob, Target};
use rota_engine::engine::{Engine, Options};
use rota_engine::job::{QueueName, Time};
use rota_engine::limits::{FILTER_BYTES, FILTER_TERMS};
use rota_engine::terms::Terms;

#[track_caller]
fn check_refused(text: &str, error: &str, hint: &str) {
    let refused = text.parse::<Filter>().unwrap_err();
    assert_eq!((refused.to_string().as_str(), refused.hint().as_str()), (error, hint), "{text}");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    check_refused("queue:mail stat:buried", "unknown field \"stat\" at 12", "did you mean \"state\"?");
    check_refused("-tube:mail", "unknown field \"tube\" at 2", "did you mean \"queue\"?");
    check_refused("headers:x", "unknown field \"headers\" at 1", "did you mean \"header.NAME\"?");
    check_refused("header.:x", "a header without a name at 1", "write header.NAME:value, as header.trace:00-*");
    check_refused("state:burried", "unknown state \"burried\" at 7", "did you mean \"buried\"?");
    check_refused("state:ready,", "state has no value at 13", "write one directly behind it, as state:buried,delayed");
    check_refused("key: x", "key has no value at 5", "write one directly behind it, as key:user-42-*");
    check_refused("é timeout", "\"é\" at 1 is not a term", "write a field and a value, as error:\"é\" or queue:mail");
    check_refused("  state", "\"state\" at 3 is not a term", "write a value too, as state:buried,delayed");
    check_refused(":x", "\":\" at 1 is not a term", "write a field and a value, as error:\":\" or queue:mail");
    check_refused("state=ready", "\"=\" at 6 says nothing here", "write state:");
    check_refused("state!=ready", "\"=\" at 7 says nothing here", "write -state: for all others");
    check_refused(
        "queue>mail",
        "queue at 1 has no order to compare by",
        "write queue:value; * stands for anything in it",
    );
    check_refused("age:1h", "age at 1 is never just one span", "write age<1h or age>1h");
    check_refused(
        "id>1,2",
        "id is compared with one value, and at 6 another begins",
        "leave the others away, or write a term for each",
    );
    check_refused("id:1x", "\"1x\" at 4 is not the id of a job", "write digits alone, as the job's put answered them");
    check_refused(
        "attempts>+3",
        "\"+3\" at 10 is not a whole number",
        "write digits alone, up to 18446744073709551615",
    );
    check_refused("body_bytes>1QiB", "\"1QiB\" at 12 is not a whole number", "write bytes, as 4096, 64KiB or 1MiB");
    check_refused(
        "age>1",
        "1 has no unit: write 1s or 1ms, at 5",
        "write a number and a unit, as 250ms, 90s, 1h30m or 7d",
    );
    let open = "end it with \"; within it, \\\" stands for a quotation mark and \\\\ for a backslash";
    check_refused("error:\"a\\\"", "the quotation that begins at 7 does not end", open);
    let beside = "put all of the value between quotation marks, and a space behind it";
    check_refused("error:\"a\"b", "'b' at 10 stands directly at a quotation", beside);
    check_refused("error:a\"b\"", "'\"' at 8 stands directly at a quotation", beside);
    let all: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
    check_refused("nonsense:1", "unknown field \"nonsense\" at 1", &format!("the fields are {}", all.join(", ")));
}

#[test]
fn a_filter_is_bounded() {
    let long = "x".repeat(FILTER_BYTES + 1);
    assert_eq!(long.parse::<Filter>(), Err(FilterError::TooLong(FILTER_BYTES + 1)));
    let most = vec!["id:1"; FILTER_TERMS].join(" ");
    assert!(most.parse::<Filter>().is_ok());
    assert_eq!(format!("{most} id:2").parse::<Filter>(), Err(FilterError::TooManyTerms { at: most.len() + 2 }));
    // The commands send it as it is printed.
    let sizes = format!("body_bytes:{}", vec!["1GiB"; 400].join(","));
    assert_eq!(sizes.parse::<Filter>(), Err(FilterError::TooLongWritten(11 + 400 * 11 - 1)));
    let sizes = format!("body_bytes:{}", vec!["1GiB"; 180].join(",")).parse::<Filter>().unwrap();
    assert_eq!(sizes.to_string().parse(), Ok(sizes));
}

#[test]
fn every_field_is_read_as_its_example_says_and_is_in_the_guide() {
    let guide = include_str!("../../../../docs/http.md");
    for field in &FIELDS {
        let filter: Filter = field.example.parse().unwrap_or_else(|error| panic!("{}: {error}", field.name));
        assert_eq!(filter.to_string().parse(), Ok(filter), "{}", field.name);
        assert!(guide.contains(&format!("| `{}` |", field.name)), "{} is not explained", field.name);
        assert!(guide.contains(&format!("`{}`", field.example)), "{} is not in the guide", field.example);
    }
}

#[test]
fn what_is_written_in_other_ways_is_the_same() {
    for (text, other) in [
        ("!state:ready", "-state:ready"),
        ("age:>1h", "age>60m"),
        ("  id:1\t id:2\n", "id:1 id:2"),
        ("headers.a:b", "header.a:b"),
        ("key:\"a*b\"", "key:a*b"),
        ("key:\"a\\b\"", "key:a\\b"),
        ("body_bytes<=2KiB", "body_bytes<=2048"),
        ("error:Timeout", "error:timeout"),
    ] {
        assert_eq!(text.parse::<Filter>(), other.parse::<Filter>(), "{text}");
    }
    assert_ne!("key:\"a\\*b\"".parse::<Filter>(), "key:a*b".parse::<Filter>());
    assert!("".parse::<Filter>().unwrap().is_empty());
}

#[test]
fn jobs_are_named_by_their_ids() {
    let named =
        |text: &str| text.parse::<Filter>().unwrap().named().map(|ids| ids.iter().map(|id| id.0).collect::<Vec<_>>());
    assert_eq!(named("queue:mail id:7,3,7 id:4"), Some(vec![3, 7]));
    for text in ["", "-id:7", "id>7", "priority:7", "after:7"] {
        assert_eq!(named(text), None, "{text}");
    }
}

#[test]
fn a_filter_says_where_its_jobs_stand() {
    let queue = |name: &str| QueueName::new(name).unwrap();
    let queues = |text: &str| text.parse::<Filter>().unwrap().queues();
    assert_eq!(queues("queue:a,b state:ready"), Some(vec![queue("a"), queue("b")]));
    assert_eq!(queues("queue:a,b,c queue:*x queue:c"), Some(vec![queue("c")]), "the fewest");
    assert_eq!(queues("queue:\"not a name\",a"), Some(vec![queue("a")]), "there is no such queue");
    for text in ["", "-queue:a", "queue:a*", "queue:a,b*", "key:a"] {
        assert_eq!(queues(text), None, "{text}");
    }
    let filter: Filter = "queue:a*,b -queue:ab key:\"x\\*\",y -state:ready state:ready,buried".parse().unwrap();
    assert_eq!(filter.keys(), Some(vec![&b"x*"[..], b"y"]));
    let taken = ["a", "ab", "ac", "b", "c"].into_iter().filter(|name| filter.takes_queue(&queue(name)));
    assert_eq!(taken.collect::<Vec<_>>(), ["a", "ac", "b"]);
    let states = JobState::ALL.into_iter().filter(|&state| filter.takes_state(state));
    assert_eq!(states.collect::<Vec<_>>(), [JobState::Buried]);
    for (text, has_lines) in [("queue:a*", true), ("-state:ready", true), ("key:x", true), ("kind:x id>3", false)] {
        assert_eq!(text.parse::<Filter>().unwrap().has_lines(), has_lines, "{text}");
    }
}

#[test]
fn a_job_is_taken_by_what_it_is() {
    let mut engine = Engine::in_memory(Options::default(), Time(1_000_000_000), Time(1_000_000_000));
    let session = engine.open_session().unwrap();
    let queue = QueueName::new("mail-eu").unwrap();
    let terms = Terms {
        kind: Some("welcome".into()),
        limit_key: Some("customer 7".into()),
        headers: vec![("trace".into(), "00-7".into()), ("trace".into(), "x".into())],
        ..Terms::default()
    };
    let put = NewJob {
        key: Some(b"user,1*\xff"),
        due: Due::In(Duration::from_secs(600)),
        max_attempts: 3,
        terms: Some(Box::new(terms)),
        ..NewJob::new(Target::Named(&queue), vec![b'x'; 2048].into())
    };
    engine.execute(session, Command::Put(put), Time(1_000_000_000)).unwrap();
    engine.tick(Time(91_000_000_000));
    let job = engine.job(JobId(1)).unwrap();
    let takes = |text: &str| {
        let filter: Filter = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        filter.takes(&job, engine.now(), &mut 0)
    };
    for text in [
        "",
        "queue:mail-eu",
        "queue:*",
        "queue:mail*,other",
        "queue:m*l-*u",
        "state:delayed,ready",
        "-state:ready",
        "kind:welcome",
        "kind:*",
        "limit_key:\"customer 7\"",
        "key:user*",
        "key:\"user,1\\**\"",
        "header.trace:00-*",
        "header.trace:x",
        "-header.span:*",
        "-error:*",
        "id:1,2",
        "id<2 id>=1",
        "priority:0",
        "max_attempts:3 attempts<1",
        "body_bytes:2KiB",
        "age>89s age<=90s",
        "due<510001ms due>=510s",
        "ttr:1m",
        "-waits_for:1 -after:1 -held_by:1",
    ] {
        assert!(takes(text), "{text}");
        assert_eq!(
            text.is_empty(),
            !text.parse::<Filter>().unwrap().terms.iter().any(|term| {
                let opposite = Term { is_negated: !term.is_negated, ..term.clone() };
                !Filter { terms: vec![opposite] }.takes(&job, engine.now(), &mut 0)
            }),
            "{text}"
        );
    }
    for text in [
        "queue:mail",
        "queue:*-eu*x",
        "state:ready",
        "kind:Welcome",
        "key:user",
        "id>1",
        "queue:mail* id:2",
        "queue:mail-eu*mail-eu",
    ] {
        assert!(!takes(text), "{text}");
    }
}

fn pattern() -> impl Strategy<Value = Pattern> {
    vec("[a-z\"\\\\*, <>:é\u{0}-]{0,6}", 1..4).prop_map(Pattern)
}

fn test_of<T: Clone + std::fmt::Debug>(value: impl Strategy<Value = T> + Clone) -> impl Strategy<Value = Test<T>> {
    let comparison = prop_oneof![
        Just(Comparison::Less),
        Just(Comparison::AtMost),
        Just(Comparison::More),
        Just(Comparison::AtLeast)
    ];
    prop_oneof![vec(value.clone(), 1..4).prop_map(Test::Among), (comparison, value).prop_map(|(c, v)| Test::Than(c, v))]
}

fn condition() -> impl Strategy<Value = Condition> {
    let about = (0..FIELDS.len()).prop_map(|at| FIELDS[at].about);
    let span = (0..=36_525 * 86_400_u64 - 1, prop_oneof![Just(0), 0..1_000_000_000_u32]);
    let span = span.prop_map(|(seconds, nanos)| Duration::new(seconds, nanos));
    let id = any::<u64>().prop_map(JobId);
    let states = vec((0..JobState::ALL.len()).prop_map(|at| JobState::ALL[at]), 1..4);
    let parts = (
        about,
        vec(pattern(), 1..4),
        "[^ \t\n:<>=\",\\s]{1,5}",
        states,
        test_of(any::<u64>()),
        (test_of(span.clone()), span),
        vec(id, 1..4),
    );
    parts.prop_map(|(about, patterns, header, states, number, (test, span), ids)| match about {
        About::Text(of @ (Text::Queue | Text::Kind | Text::LimitKey | Text::Key)) => Condition::Text(of, patterns),
        About::Text(of) => {
            let small = |pattern: Pattern| Pattern(pattern.0.iter().map(|piece| piece.to_ascii_lowercase()).collect());
            Condition::Text(of, patterns.into_iter().map(small).collect())
        }
        About::Header => Condition::Header(header.into(), patterns),
        About::State => Condition::State(states),
        About::Number(of) => Condition::Number(of, number),
        About::Span(Span::Ttr) => Condition::Span(Span::Ttr, test),
        About::Span(of) => Condition::Span(of, Test::Than(Comparison::More, span)),
        About::Jobs(of) => Condition::Jobs(of, ids),
    })
}

fn filter() -> impl Strategy<Value = Filter> {
    let term = (any::<bool>(), condition()).prop_map(|(is_negated, condition)| Term { is_negated, condition });
    vec(term, 0..6).prop_map(|terms| Filter { terms })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(filter in filter()) {
        prop_assert_eq!(filter.to_string().parse::<Filter>(), Ok(filter));
    }

    #[test]
    fn whatever_is_typed_is_read_or_refused_with_a_place_in_it(text in "\\PC{0,60}") {
        check_any(&text)?;
    }

    #[test]
    fn so_is_what_looks_like_a_filter(text in "([-!]?(queue|state|id|age|header\\.a|err)?[:<>=]{0,2}[a-z0-9*\"\\\\, é]{0,8} ?){0,6}") {
        check_any(&text)?;
    }
}

fn check_any(text: &str) -> Result<(), TestCaseError> {
    match text.parse::<Filter>() {
        Ok(filter) => prop_assert_eq!(filter.to_string().parse::<Filter>(), Ok(filter)),
        Err(error) => {
            let place = error.at().unwrap_or(1);
            prop_assert!((1..=text.chars().count() + 1).contains(&place), "{}", error);
            prop_assert!(!error.hint().is_empty());
        }
    }
    Ok(())
}
