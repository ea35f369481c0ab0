//! The questions a client asks to learn a server's schema, as a state machine without a socket.
//!
//! The driver opens a stream to [`Fetch::path`], sends what [`Fetch::next_request`] gives until it gives
//! nothing, hands over each answer, and so on until [`Fetch::is_done`]. It must not wait for headers or
//! answers before it sends: some servers send none before they have a request, and every question
//! asked at once saves a round trip.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use prost::Message as _;

use super::{Answer, Question, Refusal, Request, Response, SERVICE_V1, SERVICE_V1ALPHA};
use crate::rpc::schema::{RawFile, Schema, SchemaError, is_well_known_file};
use crate::rpc::{Code, Status};

/// More files than this are refused.
const FILES_MAX: usize = 4_000;
/// More bytes of descriptors than this are refused: decoded and linked, hostile ones take a hundred times as much.
const BYTES_MAX: usize = 8 << 20;

/// More names of services than this are refused, and more symbols asked for.
const SERVICES_MAX: usize = 4_000;

/// Why a schema could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server ended the stream with this.
    #[error("the server does not describe itself: {0}")]
    Status(Status),
    /// It answered what was not asked, or nothing that can be read.
    #[error("the server's reflection answer makes no sense: {0}")]
    Answer(String),
    /// It answered more than we take in.
    #[error("the server's schema is over the limit of {FILES_MAX} files or {BYTES_MAX} bytes")]
    TooLarge,
    /// What it answered is no schema.
    #[error("the server's schema is broken: {0}")]
    Schema(#[from] SchemaError),
}

/// What to do after a stream ended with an error.
#[derive(Debug)]
pub enum Next {
    /// Open a new stream, to the new [`Fetch::path`]: the older version may be there.
    Again,
    /// Give up.
    Failed(FetchError),
}

/// What was fetched.
pub struct Fetched {
    /// Full names of all services, if asked for.
    pub services: Vec<String>,
    /// The types of the symbols asked for.
    pub schema: Schema,
    /// Symbols the server does not know, with its answer.
    pub missing: Vec<(String, String)>,
    /// What it took to learn this, for the next time; `None` if that would not be any faster.
    pub lesson: Option<Foresight>,
}

/// What will have to be asked, as far as can be known beforehand: from the last time.
///
/// It is never more than a guess about questions. Every answer still comes from the server, so what is
/// fetched is the same with a wrong one as with none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foresight {
    /// Full names of services and messages.
    pub symbols: Vec<String>,
    /// Names of files that others import.
    pub files: Vec<String>,
    /// The server has only the older version of the service.
    pub alpha: bool,
}

impl Foresight {
    /// More than this is not asked ahead: all of it is sent before the first answer is read.
    pub const QUESTIONS_MAX: usize = 512;

    fn questions(&self) -> Vec<Question> {
        let symbols = self.symbols.iter().cloned().map(Question::FileContainingSymbol);
        let files = self.files.iter().cloned().map(Question::FileByFilename);
        symbols.chain(files).take(Self::QUESTIONS_MAX).collect()
    }
}

/// One conversation.
#[derive(Debug)]
pub struct Fetch {
    alpha: bool,
    /// What the caller wants to know, for a second attempt.
    wanted: Vec<Question>,
    /// After the list has come, ask for the types of all its services.
    all: bool,
    /// Asked before anybody knows whether it is needed.
    foreseen: Vec<Question>,
    /// The older version is asked because of a guess.
    foreseen_alpha: bool,
    to_ask: VecDeque<Question>,
    asked: VecDeque<Question>,
    /// All that had to be known, in that order and against asking twice.
    needed: Vec<Question>,
    known: HashSet<Question>,
    /// Of these, what has no answer yet.
    open: HashSet<Question>,
    /// Answers to foreseen questions that nobody has needed so far.
    ahead: HashMap<Question, Answer>,
    /// Answers that came ahead and are needed by now.
    ready: VecDeque<(Question, Answer)>,
    services: Option<Vec<String>>,
    files: HashMap<String, RawFile>,
    order: Vec<String>,
    bytes: usize,
    missing: Vec<(String, String)>,
    absent_files: Vec<(String, String)>,
    answered: bool,
    /// Something was asked only after an answer had come.
    waited: bool,
}

impl Fetch {
    fn new(wanted: Vec<Question>, all: bool, alpha: bool, foreseen: Vec<Question>) -> Self {
        let mut fetch = Self {
            alpha,
            wanted: Vec::new(),
            all,
            foreseen: Vec::new(),
            foreseen_alpha: false,
            to_ask: VecDeque::new(),
            asked: VecDeque::new(),
            needed: Vec::new(),
            known: HashSet::new(),
            open: HashSet::new(),
            ahead: HashMap::new(),
            ready: VecDeque::new(),
            services: None,
            files: HashMap::new(),
            order: Vec::new(),
            bytes: 0,
            missing: Vec::new(),
            absent_files: Vec::new(),
            answered: false,
            waited: false,
        };
        wanted.iter().for_each(|question| fetch.need(question.clone()));
        let new = foreseen.iter().filter(|question| !fetch.known.contains(*question)).cloned();
        let new: Vec<Question> = new.collect();
        fetch.to_ask.extend(new);
        Self { wanted, foreseen, ..fetch }
    }

    fn begin(wanted: Vec<Question>, all: bool) -> Self {
        Self::new(wanted, all, false, Vec::new())
    }

    /// Names of services only.
    pub fn services() -> Self {
        Self::begin(vec![Question::ListServices(String::new())], false)
    }

    /// All services and all their types.
    pub fn everything() -> Self {
        Self::begin(vec![Question::ListServices(String::new())], true)
    }

    /// The types of these symbols.
    pub fn symbols<S: Into<String>>(symbols: impl IntoIterator<Item = S>) -> Self {
        let questions = symbols.into_iter().map(|symbol| Question::FileContainingSymbol(symbol.into()));
        Self::begin(questions.collect(), false)
    }

    /// Asks what will probably be needed together with what certainly is. To be called before anything is sent.
    #[must_use]
    pub fn foreseeing(self, foresight: &Foresight) -> Self {
        let fetch = Self::new(self.wanted, self.all, foresight.alpha, foresight.questions());
        Self { foreseen_alpha: foresight.alpha, ..fetch }
    }

    /// Asks for one more symbol, at any time before the end.
    pub fn ask_symbol(&mut self, symbol: &str) {
        let question = Question::FileContainingSymbol(symbol.to_owned());
        if !self.answered {
            self.wanted.push(question.clone());
        }
        self.need(question);
    }

    /// The names of the services, once they have come.
    pub fn known_services(&self) -> Option<&[String]> {
        self.services.as_deref()
    }

    /// The method to open a stream to, without a leading slash.
    pub fn path(&self) -> String {
        format!("{}/ServerReflectionInfo", if self.alpha { SERVICE_V1ALPHA } else { SERVICE_V1 })
    }

    /// The next message to send; `None` if answers are needed first, or none at all.
    ///
    /// # Errors
    /// An answer that came before it was needed makes no sense.
    pub fn next_request(&mut self) -> Result<Option<Bytes>, FetchError> {
        while let Some((question, answer)) = self.ready.pop_front() {
            self.take(question, answer)?;
        }
        let Some(question) = self.to_ask.pop_front() else { return Ok(None) };
        self.waited |= self.answered;
        self.asked.push_back(question.clone());
        Ok(Some(Request { host: String::new(), question: Some(question) }.encode_to_vec().into()))
    }

    /// True if everything that is needed has been answered.
    pub fn is_done(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes an answer.
    ///
    /// # Errors
    /// One that makes no sense.
    pub fn on_response(&mut self, message: Bytes) -> Result<(), FetchError> {
        self.bytes += message.len();
        if self.bytes > BYTES_MAX {
            return Err(FetchError::TooLarge);
        }
        let response = Response::decode(message).map_err(|error| FetchError::Answer(error.to_string()))?;
        let question = self
            .asked
            .pop_front()
            .ok_or_else(|| FetchError::Answer("an answer to no question".to_owned()))?;
        self.answered = true;
        let answer = response
            .answer
            .ok_or_else(|| FetchError::Answer(format!("the wrong kind of answer to {question:?}")))?;
        if self.open.contains(&question) {
            self.take(question, answer)?;
        } else if !self.known.contains(&question) {
            self.ahead.insert(question, answer);
        }
        Ok(())
    }

    /// Sees to it that the question is answered, if it is not already.
    fn need(&mut self, question: Question) {
        if !self.known.insert(question.clone()) {
            return;
        }
        self.needed.push(question.clone());
        self.open.insert(question.clone());
        if let Some(answer) = self.ahead.remove(&question) {
            self.ready.push_back((question, answer));
        } else if !self.asked.contains(&question) && !self.to_ask.contains(&question) {
            self.to_ask.push_back(question);
        }
    }

    fn take(&mut self, question: Question, answer: Answer) -> Result<(), FetchError> {
        self.open.remove(&question);
        match (question, answer) {
            (_, Answer::Files(files)) => {
                files.file_descriptor_proto.into_iter().try_for_each(|bytes| self.take_file(bytes))
            }
            (Question::ListServices(_), Answer::Services(services)) => {
                if services.service.len() > SERVICES_MAX {
                    return Err(FetchError::TooLarge);
                }
                let names: Vec<String> = services.service.into_iter().map(|service| service.name).collect();
                if self.all {
                    names.iter().for_each(|name| self.ask_symbol(name));
                }
                self.services = Some(names);
                Ok(())
            }
            (question, Answer::Error(refusal)) => self.refused(question, &refusal),
            (question, _) => Err(FetchError::Answer(format!("the wrong kind of answer to {question:?}"))),
        }
    }

    fn refused(&mut self, question: Question, refusal: &Refusal) -> Result<(), FetchError> {
        let code =
            u32::try_from(refusal.error_code).ok().and_then(Code::from_number).unwrap_or(Code::Unknown);
        let text = format!("{}: {}", code.name(), refusal.error_message);
        match question {
            Question::FileContainingSymbol(symbol) => self.missing.push((symbol, text)),
            // Some servers do not know files that theirs import; what matters is whether the types are there.
            Question::FileByFilename(name) => self.absent_files.push((name, text)),
            _ => return Err(FetchError::Status(Status::new(code, refusal.error_message.clone()))),
        }
        Ok(())
    }

    fn take_file(&mut self, bytes: Bytes) -> Result<(), FetchError> {
        if self.files.len() >= FILES_MAX {
            return Err(FetchError::TooLarge);
        }
        let raw = RawFile::decode(bytes)?;
        // Of these, many are the same or ours: what is missing is bounded below.
        if raw.file.dependency.len() > FILES_MAX {
            return Err(FetchError::TooLarge);
        }
        let name = raw.name().to_owned();
        if self.files.contains_key(&name) {
            return Ok(());
        }
        for import in &raw.file.dependency {
            // Its own copy of a well-known file is never better than ours.
            let is_there = self.files.contains_key(import) || is_well_known_file(import);
            if !is_there {
                if self.known.len() > FILES_MAX {
                    return Err(FetchError::TooLarge);
                }
                self.need(Question::FileByFilename(import.clone()));
            }
        }
        // It may have come without being asked for, together with the file that imports it.
        let itself = Question::FileByFilename(name.clone());
        self.to_ask.retain(|question| *question != itself);
        self.ready.retain(|(question, _)| *question != itself);
        self.needed.retain(|question| *question != itself || !self.open.contains(question));
        self.open.remove(&itself);
        self.known.insert(itself);
        self.order.push(name.clone());
        self.files.insert(name, raw);
        Ok(())
    }

    /// The stream ended with an error, before everything was answered.
    pub fn on_failure(&mut self, status: Status) -> Next {
        // Only where the newer service cannot be reached: another error would be hidden by trying on.
        let may_be_older = matches!(status.code, Code::Unimplemented | Code::Unavailable);
        if !self.alpha && !self.answered && may_be_older {
            let foreseen = std::mem::take(&mut self.foreseen);
            *self = Self::new(std::mem::take(&mut self.wanted), self.all, true, foreseen);
            return Next::Again;
        }
        let is_about_us = matches!(
            status.code,
            Code::DeadlineExceeded | Code::Canceled | Code::PermissionDenied | Code::Unauthenticated
        );
        if !is_about_us && self.forget_foresight() {
            return Next::Again;
        }
        Next::Failed(FetchError::Status(status))
    }

    /// Begins again without guesses, if there were any: a server may answer them badly.
    pub fn forget_foresight(&mut self) -> bool {
        let guessed = self.foreseen_alpha || !self.foreseen.is_empty();
        if guessed {
            let alpha = self.alpha && !self.foreseen_alpha;
            *self = Self::new(std::mem::take(&mut self.wanted), self.all, alpha, Vec::new());
        }
        guessed
    }

    /// Links what has come, repaired where it is broken in known ways.
    ///
    /// # Errors
    /// Types that lead nowhere.
    pub fn finish(mut self) -> Result<Fetched, FetchError> {
        let lesson = self.lesson();
        let files = self.order.iter().filter_map(|name| self.files.remove(name)).collect();
        let schema = Schema::link_repaired(files, &self.absent_files)?;
        Ok(Fetched { services: self.services.unwrap_or_default(), schema, missing: self.missing, lesson })
    }

    fn lesson(&self) -> Option<Foresight> {
        let well_guessed = self.alpha == self.foreseen_alpha
            && self.foreseen.iter().all(|question| self.known.contains(question));
        if (!self.waited && well_guessed) || self.needed.len() > Foresight::QUESTIONS_MAX {
            return None;
        }
        let mut lesson = Foresight { alpha: self.alpha, ..Foresight::default() };
        for question in &self.needed {
            match question {
                Question::FileContainingSymbol(symbol) => lesson.symbols.push(symbol.clone()),
                Question::FileByFilename(name) => lesson.files.push(name.clone()),
                Question::ListServices(_)
                | Question::FileContainingExtension(_)
                | Question::AllExtensionNumbersOfType(_) => {}
            }
        }
        Some(lesson)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Files, ServiceName, Services};
    use super::*;
    use crate::rpc::{Format, Payload};

    fn answer(answer: Answer) -> Bytes {
        Response { valid_host: String::new(), original_request: None, answer: Some(answer) }
            .encode_to_vec()
            .into()
    }

    fn asked(fetch: &mut Fetch) -> Vec<Question> {
        let requests: Vec<Bytes> = std::iter::from_fn(|| fetch.next_request().unwrap()).collect();
        requests.into_iter().map(|bytes| Request::decode(bytes).unwrap().question.unwrap()).collect()
    }

    fn file(name: &str) -> Bytes {
        Schema::standard().file(name).unwrap().clone()
    }

    fn files(names: &[&str]) -> Bytes {
        answer(Answer::Files(Files { file_descriptor_proto: names.iter().map(|name| file(name)).collect() }))
    }

    #[test]
    fn all_services_are_asked_for_at_once() {
        let mut fetch = Fetch::everything();
        assert_eq!(asked(&mut fetch), [Question::ListServices(String::new())]);
        let names = ["grpc.health.v1.Health", SERVICE_V1];
        let service = names.map(|name| ServiceName { name: name.to_owned() }).to_vec();
        fetch.on_response(answer(Answer::Services(Services { service }))).unwrap();
        assert_eq!(asked(&mut fetch), names.map(|name| Question::FileContainingSymbol(name.to_owned())));
        fetch.on_response(files(&["grpc/health/v1/health.proto"])).unwrap();
        assert!(!fetch.is_done());
        fetch.on_response(files(&["grpc/reflection/v1/reflection.proto"])).unwrap();
        assert!(fetch.is_done());
        let fetched = fetch.finish().unwrap();
        assert_eq!(fetched.services, names);
        assert_eq!(fetched.schema.services().collect::<Vec<_>>(), names);
    }

    #[test]
    fn imports_are_asked_for_unless_they_are_well_known_or_came_along() {
        let importing = |imports: &[&str]| {
            let dependency = imports.iter().map(|import| (*import).to_owned()).collect();
            let file = buffa_descriptor::generated::descriptor::FileDescriptorProto {
                name: Some("a.proto".to_owned()),
                dependency,
                ..Default::default()
            };
            RawFile::encode(file).bytes
        };
        let mut fetch = Fetch::symbols(["a.A"]);
        asked(&mut fetch);
        let there = ["google/protobuf/any.proto", "grpc/health/v1/health.proto", "google/rpc/status.proto"];
        let sent = vec![importing(&there), file("grpc/health/v1/health.proto")];
        fetch.on_response(answer(Answer::Files(Files { file_descriptor_proto: sent }))).unwrap();
        assert_eq!(asked(&mut fetch), [Question::FileByFilename("google/rpc/status.proto".to_owned())]);
        // A file nobody has is no failure as long as its types are not needed.
        let refusal = Refusal { error_code: 5, error_message: "gone".to_owned() };
        fetch.on_response(answer(Answer::Error(refusal))).unwrap();
        assert!(fetch.finish().unwrap().schema.message("grpc.health.v1.HealthCheckRequest").is_some());
    }

    fn services(names: &[&str]) -> Bytes {
        let service = names.iter().map(|name| ServiceName { name: (*name).to_owned() }).collect();
        answer(Answer::Services(Services { service }))
    }

    fn symbol(name: &str) -> Question {
        Question::FileContainingSymbol(name.to_owned())
    }

    const HEALTH: &str = "grpc.health.v1.Health";

    #[test]
    fn what_was_learnt_is_asked_at_once_the_next_time() {
        let list = Question::ListServices(String::new());
        let mut fetch = Fetch::everything();
        asked(&mut fetch);
        fetch.on_response(services(&[HEALTH])).unwrap();
        assert_eq!(asked(&mut fetch), [symbol(HEALTH)]);
        fetch.on_response(files(&["grpc/health/v1/health.proto"])).unwrap();
        let first = fetch.finish().unwrap();
        let lesson = first.lesson.unwrap();
        assert_eq!(lesson.symbols, [HEALTH]);

        let mut fetch = Fetch::everything().foreseeing(&lesson);
        assert_eq!(asked(&mut fetch), [list, symbol(HEALTH)]);
        fetch.on_response(services(&[HEALTH])).unwrap();
        assert!(!fetch.is_done());
        assert_eq!(asked(&mut fetch), []);
        fetch.on_response(files(&["grpc/health/v1/health.proto"])).unwrap();
        assert!(fetch.is_done());
        let second = fetch.finish().unwrap();
        assert_eq!(second.lesson, None);
        assert_eq!(second.schema.descriptor_set(), first.schema.descriptor_set());
    }

    #[test]
    fn a_wrong_guess_changes_nothing_but_the_questions() {
        let foresight = Foresight {
            symbols: vec![HEALTH.to_owned(), "gone.Service".to_owned()],
            files: vec!["gone.proto".to_owned()],
            alpha: false,
        };
        let mut fetch = Fetch::everything().foreseeing(&foresight);
        assert_eq!(asked(&mut fetch).len(), 4);
        // By now the server has something else.
        fetch.on_response(services(&[SERVICE_V1])).unwrap();
        assert_eq!(asked(&mut fetch), [symbol(SERVICE_V1)]);
        fetch.on_response(files(&["grpc/health/v1/health.proto"])).unwrap();
        for _ in 0..2 {
            let refusal = Refusal { error_code: 5, error_message: "gone".to_owned() };
            fetch.on_response(answer(Answer::Error(refusal))).unwrap();
        }
        assert!(!fetch.is_done());
        fetch.on_response(files(&["grpc/reflection/v1/reflection.proto"])).unwrap();
        assert!(fetch.is_done());
        let fetched = fetch.finish().unwrap();
        assert_eq!(fetched.schema.services().collect::<Vec<_>>(), [SERVICE_V1]);
        assert_eq!(fetched.missing, []);
        assert_eq!(fetched.lesson.unwrap().symbols, [SERVICE_V1]);
    }

    #[test]
    fn an_answer_is_used_when_it_turns_out_to_be_needed() {
        let foresight = Foresight { symbols: vec![HEALTH.to_owned()], ..Foresight::default() };
        let mut fetch = Fetch::services().foreseeing(&foresight);
        assert_eq!(asked(&mut fetch).len(), 2);
        fetch.on_response(services(&[HEALTH])).unwrap();
        assert!(fetch.is_done());
        fetch.on_response(files(&["grpc/health/v1/health.proto"])).unwrap();
        fetch.ask_symbol(HEALTH);
        assert!(!fetch.is_done());
        assert_eq!(asked(&mut fetch), []);
        assert!(fetch.is_done());
        assert_eq!(fetch.finish().unwrap().schema.services().collect::<Vec<_>>(), [HEALTH]);
    }

    #[test]
    fn a_server_that_dislikes_a_guess_is_asked_without() {
        let foresight = Foresight { symbols: vec!["gone.S".to_owned()], files: Vec::new(), alpha: true };
        let mut fetch = Fetch::services().foreseeing(&foresight);
        assert_eq!(fetch.path(), "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo");
        assert_eq!(asked(&mut fetch).len(), 2);
        assert!(matches!(fetch.on_failure(Status::new(Code::Unimplemented, "")), Next::Again));
        assert_eq!(fetch.path(), "grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
        assert_eq!(asked(&mut fetch), [Question::ListServices(String::new())]);
        let mut fetch = Fetch::services().foreseeing(&foresight);
        asked(&mut fetch);
        assert!(fetch.forget_foresight() && !fetch.forget_foresight());
        let mut fetch = Fetch::services().foreseeing(&foresight);
        assert!(matches!(fetch.on_failure(Status::new(Code::DeadlineExceeded, "")), Next::Failed(_)));
    }

    #[test]
    fn the_older_version_is_tried_only_where_the_newer_is_not() {
        let mut fetch = Fetch::services();
        asked(&mut fetch);
        assert!(matches!(fetch.on_failure(Status::new(Code::Unimplemented, "")), Next::Again));
        assert_eq!(fetch.path(), "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo");
        assert_eq!(asked(&mut fetch).len(), 1);
        assert!(matches!(fetch.on_failure(Status::new(Code::Unimplemented, "")), Next::Failed(_)));
        let mut fetch = Fetch::services();
        assert!(matches!(fetch.on_failure(Status::new(Code::Internal, "broken")), Next::Failed(_)));
    }

    #[test]
    fn an_unknown_symbol_is_reported_with_the_rest() {
        let mut fetch = Fetch::symbols(["a.A"]);
        asked(&mut fetch);
        let refusal = Refusal { error_code: 5, error_message: "no such symbol".to_owned() };
        fetch.on_response(answer(Answer::Error(refusal))).unwrap();
        let missing = fetch.finish().unwrap().missing;
        assert_eq!(missing, [("a.A".to_owned(), "NOT_FOUND: no such symbol".to_owned())]);
    }

    /// Bytes of @grpc/reflection 1.0.4 fed by @grpc/proto-loader: synthetic files, relative type names.
    #[test]
    fn the_junk_of_grpc_js_is_repaired() {
        let golden = include_bytes!("../../../tests/golden/reflection/grpc-js-reflection-1.0.4.bin");
        let mut fetch = Fetch::symbols(["demo.v1.Greeter"]);
        asked(&mut fetch);
        fetch.on_response(Bytes::from_static(golden)).unwrap();
        assert!(fetch.is_done());
        let schema = fetch.finish().unwrap().schema;
        let paths: Vec<String> = schema.methods().map(|method| method.path).collect();
        assert_eq!(paths, ["demo.v1.Greeter/Hello", "demo.v1.Greeter/Watch", "demo.v1.Greeter/Clear"]);
        let message = schema.message("demo.v1.Ask").unwrap();
        let json = r#"{"name":"Ada","color":"RED","mood":"GOOD","inner":{"deep":"x","mood":"GOOD"},"when":"2024-01-01T00:00:00Z","nick":"a","inners":{"k":{"deep":"y"}},"colors":["RED"],"age":0,"b":"5"}"#;
        let proto = message.convert(&Payload::json(json), Format::Proto).unwrap();
        assert_eq!(message.convert(&Payload::proto(proto), Format::Json).unwrap(), json);
    }

    #[test]
    fn more_than_a_schema_can_be_is_refused_early() {
        use buffa_descriptor::generated::descriptor::FileDescriptorProto;
        let reply = |fetch: &mut Fetch, file: FileDescriptorProto| {
            let file_descriptor_proto = vec![RawFile::encode(file).bytes];
            fetch.on_response(answer(Answer::Files(Files { file_descriptor_proto })))
        };
        // Files without an end: each imports another.
        let mut fetch = Fetch::symbols(["a.A"]);
        let refused = (0..).find(|number| {
            asked(&mut fetch);
            let name = |number: i32| format!("{number}.proto");
            let file = FileDescriptorProto {
                name: Some(name(*number)),
                dependency: vec![name(number + 1)],
                ..Default::default()
            };
            matches!(reply(&mut fetch, file), Err(FetchError::TooLarge))
        });
        assert!(refused.is_some_and(|number| (3_000..=4_100).contains(&number)), "{refused:?}");
        // One file that imports more than there can be.
        let mut fetch = Fetch::symbols(["a.A"]);
        asked(&mut fetch);
        let dependency = (0..FILES_MAX as i32 + 1).map(|number| format!("{number}.proto")).collect();
        let file = FileDescriptorProto { name: Some("a.proto".to_owned()), dependency, ..Default::default() };
        assert!(matches!(reply(&mut fetch, file), Err(FetchError::TooLarge)));
        // Empty messages, which decoded take hundreds of times their bytes.
        let mut fetch = Fetch::symbols(["a.A"]);
        asked(&mut fetch);
        let bytes = Bytes::from(b"\x22\x00".repeat(1 << 20));
        let files = answer(Answer::Files(Files { file_descriptor_proto: vec![bytes] }));
        assert!(matches!(fetch.on_response(files), Err(FetchError::Schema(_))));
        // Text: no memory but its own, until there is too much of it.
        let mut fetch = Fetch::symbols(["a.A"]);
        asked(&mut fetch);
        let file = FileDescriptorProto { name: Some("x".repeat(BYTES_MAX)), ..Default::default() };
        assert!(matches!(reply(&mut fetch, file), Err(FetchError::TooLarge)));
    }

    #[test]
    fn nonsense_is_an_error() {
        let mut fetch = Fetch::symbols(["a.A"]);
        assert!(matches!(fetch.on_response(files(&[])), Err(FetchError::Answer(_))));
        asked(&mut fetch);
        assert!(matches!(fetch.on_response(Bytes::from_static(b"\xff")), Err(FetchError::Answer(_))));
        let mut fetch = Fetch::symbols(["a.A"]);
        asked(&mut fetch);
        let junk = answer(Answer::Files(Files { file_descriptor_proto: vec![Bytes::from_static(b"\xff")] }));
        assert!(matches!(fetch.on_response(junk), Err(FetchError::Schema(_))));
    }
}
