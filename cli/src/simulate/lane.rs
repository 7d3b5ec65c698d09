//! One connection and the agents that share it. Its own supervisor, as that of a
//! real agent: what fails is built anew, and what is not confirmed sent again.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::future::pending;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use contracts::v1::{AgentCommand, agent_command::Command};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use kit::amqp::{Broker, ConnectError};
use kit::queue::Topology;
use kit::shutdown::CancellationToken;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::account::Counters;
use super::agent::Agent;
use super::commands::{self, rand_share};
use super::outbox::Outbox;
use super::pace::Pace;
use super::parcel::{Content, Parcel, pack};

/// Batches that an agent publishes before one is confirmed.
const IN_FLIGHT_OF_AGENT: u64 = 16;
/// The same of all agents of a connection.
const IN_FLIGHT: usize = 256;
/// Bytes of unconfirmed batches of the whole fleet, but for one batch of each
/// connection.
const OUTSTANDING_BYTES: u64 = 256 << 20;
/// How soon that is looked at again.
const ROOM_INTERVAL: Duration = Duration::from_millis(20);
/// A broker in a memory alarm neither confirms nor refuses.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(10);
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);
/// Changes are looked for so often at most.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// When there is nothing to wait for.
const LONG: Duration = Duration::from_secs(3600);
/// Commands that wait to be obeyed.
const COMMANDS: usize = 64;
/// Commands whose IDs are remembered.
const REMEMBERED: usize = 1024;

/// What all connections share.
pub struct Shared {
    /// Where they connect to.
    pub broker: Broker,
    /// Names of exchanges and keys.
    pub topology: Topology,
    /// What is done so far.
    pub counters: Counters,
    /// What went wrong last.
    pub trouble: Mutex<Option<String>>,
    /// Ceiling of observations a second.
    pub pace: Pace,
    /// Between two heartbeats of an agent; none for no heartbeats.
    pub heartbeat_interval: Option<Duration>,
    /// Changes of each agent a second.
    pub churn: f64,
    /// Until when the fleet lives; none until all is published.
    pub until: Option<Instant>,
    /// Whether commands are obeyed.
    pub obey_commands: bool,
    /// Asks to end.
    pub shutdown: CancellationToken,
}

/// A connection.
pub struct Lane {
    shared: Arc<Shared>,
    agents: Vec<Agent>,
    outbox: Outbox,
    /// Agents that have something to send, by their places.
    busy: VecDeque<usize>,
    is_busy: Vec<bool>,
    /// Agents whose heartbeat is due.
    beats: VecDeque<usize>,
    timers: BinaryHeap<Reverse<(Instant, usize, Timer)>>,
    /// Changes that are no whole asset yet.
    fractions: Vec<f64>,
    obeyed: VecDeque<String>,
    last_words: bool,
    is_ending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Beat,
    Scan,
}

/// Why a connection was given up.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("cannot connect: {0}")]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Broker(#[from] lapin::Error),
    #[error("no confirm within {} s: the broker may be in a memory or disk alarm", CONFIRM_DEADLINE.as_secs())]
    Deadline,
}

/// A message that waits for its confirm; none for a heartbeat.
type Confirmed = (Option<u64>, Result<Confirmation, SessionError>);
type Confirms = FuturesUnordered<Pin<Box<dyn Future<Output = Confirmed> + Send>>>;

/// What an agent has to say now.
enum Next {
    Message(u64, Arc<Parcel>),
    Nothing,
    Wait(Duration),
}

impl Lane {
    /// A connection of these agents, not opened yet.
    pub fn new(shared: Arc<Shared>, agents: Vec<Agent>) -> Self {
        let count = agents.len();
        let mut lane = Self {
            shared,
            agents,
            outbox: Outbox::default(),
            busy: VecDeque::new(),
            is_busy: vec![false; count],
            beats: VecDeque::new(),
            timers: BinaryHeap::new(),
            fractions: vec![0.0; count],
            obeyed: VecDeque::new(),
            last_words: false,
            is_ending: false,
        };
        (0..count).for_each(|place| lane.note_busy(place));
        lane
    }

    /// Publishes until all is confirmed and the fleet's time is over, or it is
    /// asked to end. Answers the agents.
    pub async fn run(mut self) -> Vec<Agent> {
        let now = Instant::now();
        for place in 0..self.agents.len() {
            // Not all at one moment.
            if let Some(interval) = self.shared.heartbeat_interval {
                self.timers.push(Reverse((now + interval.mul_f64(rand::random()), place, Timer::Beat)));
            }
            if self.shared.churn > 0.0 {
                let first = now + self.scan_interval().mul_f64(rand::random());
                self.timers.push(Reverse((first, place, Timer::Scan)));
            }
        }
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let confirmed = self.shared.counters.confirmed.load(Relaxed);
            let Err(error) = self.session().await else { return self.agents };
            add(&self.shared.counters.disconnects, 1);
            self.trouble(&error);
            add(&self.shared.counters.resent, self.outbox.rewind());
            if self.shared.counters.confirmed.load(Relaxed) > confirmed {
                back_off = FIRST_BACK_OFF;
            }
            let shutdown = self.shared.shutdown.clone();
            tokio::select! {
                () = shutdown.cancelled() => return self.agents,
                () = tokio::time::sleep(back_off.mul_f64(rand_share())) => {}
            }
            back_off = (back_off * 2).min(LONGEST_BACK_OFF);
        }
    }

    fn trouble(&self, error: &SessionError) {
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    }

    async fn session(&mut self) -> Result<(), SessionError> {
        let shared = self.shared.clone();
        let connection = shared.broker.connect().await?;
        let nodes: Vec<Uuid> = self.agents.iter().map(Agent::uid).collect();
        let (send, receive) = mpsc::channel(COMMANDS);
        let commands = async {
            if shared.obey_commands {
                commands::receive(&connection, &shared.topology, &nodes, &send).await
            } else {
                pending().await
            }
        };
        tokio::select! {
            ended = self.publish_all(&connection, receive) => ended?,
            never = commands => match never {},
        }
        // All is confirmed; an agent that ends closes nothing either.
        let _ = tokio::time::timeout(CONFIRM_DEADLINE, connection.close(200, "done".into())).await;
        Ok(())
    }

    async fn publish_all(
        &mut self,
        connection: &Connection,
        mut commands: mpsc::Receiver<(usize, AgentCommand)>,
    ) -> Result<(), SessionError> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let window = IN_FLIGHT.min(self.agents.len() * IN_FLIGHT_OF_AGENT as usize);
        let shutdown = self.shared.shutdown.clone();
        let mut confirms = Confirms::new();
        // When the broker has refused a message: until then nothing is sent.
        let mut paused: Option<Instant> = None;
        let mut back_off = FIRST_BACK_OFF;
        self.all_beat();
        loop {
            let now = Instant::now();
            if paused.is_some_and(|until| now >= until) && confirms.is_empty() {
                paused = None;
                add(&self.shared.counters.resent, self.outbox.rewind());
            }
            let mut wake = paused.filter(|until| *until > now).unwrap_or(now + LONG);
            if let Some(timer) = self.fire(now) {
                wake = wake.min(timer);
            }
            while confirms.len() < window
                && let Some(place) = self.beats.pop_front()
            {
                self.beat(&channel, place, &mut confirms).await?;
            }
            while paused.is_none() && confirms.len() < window {
                match self.next(now) {
                    Next::Message(ticket, parcel) => {
                        add(&self.shared.counters.published, 1);
                        self.publish(&channel, Some(ticket), &parcel, &mut confirms).await?;
                    }
                    Next::Nothing => break,
                    Next::Wait(time) => {
                        wake = wake.min(now + time);
                        break;
                    }
                }
            }
            if confirms.is_empty() && self.is_done(now) {
                return Ok(());
            }
            if confirms.is_empty() && !self.beats.is_empty() {
                // Last words.
                continue;
            }
            tokio::select! {
                Some(confirmed) = confirms.next() => {
                    let mut next = Some(confirmed);
                    while let Some((ticket, answer)) = next {
                        match (ticket, self.settle(ticket, answer?)) {
                            (Some(_), true) => back_off = FIRST_BACK_OFF,
                            (Some(_), false) if paused.is_none() => {
                                paused = Some(Instant::now() + back_off.mul_f64(rand_share()));
                                back_off = (back_off * 2).min(LONGEST_BACK_OFF);
                            }
                            _ => {}
                        }
                        next = confirms.next().now_or_never().flatten();
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {}
                Some((place, command)) = commands.recv() => self.obey(place, command),
                () = shutdown.cancelled(), if !self.is_ending => self.end(),
            }
        }
    }

    /// Whether the agents are done; sees to their last words first.
    fn is_done(&mut self, now: Instant) -> bool {
        let is_over = self.is_ending || self.shared.until.is_none_or(|until| now >= until);
        if !is_over || !self.busy.is_empty() || self.outbox.len() > 0 {
            return false;
        }
        if !self.last_words {
            self.last_words = true;
            self.all_beat();
        }
        self.beats.is_empty()
    }

    /// What is begun is brought to its end, and nothing new begun.
    fn end(&mut self) {
        self.is_ending = true;
        self.timers.clear();
        self.agents.iter_mut().for_each(Agent::stop);
    }

    /// Does what is due; answers when the next is.
    fn fire(&mut self, now: Instant) -> Option<Instant> {
        let is_over = self.shared.until.is_some_and(|until| now >= until);
        if is_over {
            self.timers.clear();
        }
        while let Some(Reverse((at, place, timer))) = self.timers.peek().copied() {
            if at > now {
                return Some(self.shared.until.map_or(at, |until| until.min(at)));
            }
            self.timers.pop();
            let interval = match timer {
                Timer::Beat => {
                    if !self.beats.contains(&place) {
                        self.beats.push_back(place);
                    }
                    self.shared.heartbeat_interval.unwrap_or(LONG)
                }
                Timer::Scan => {
                    self.scan(place);
                    self.scan_interval()
                }
            };
            self.timers.push(Reverse(((at + interval).max(now), place, timer)));
        }
        self.shared.until.filter(|until| *until > now)
    }

    fn scan_interval(&self) -> Duration {
        SCAN_INTERVAL.max(Duration::from_secs_f64((1.0 / self.shared.churn).min(86_400.0)))
    }

    fn scan(&mut self, place: usize) {
        let changes = self.fractions[place] + self.shared.churn * self.scan_interval().as_secs_f64();
        self.fractions[place] = changes.fract();
        self.agents[place].change(changes as u32);
        self.note_busy(place);
    }

    fn note_busy(&mut self, place: usize) {
        if !self.is_busy[place] && self.agents[place].is_busy() {
            self.is_busy[place] = true;
            self.busy.push_back(place);
        }
    }

    fn all_beat(&mut self) {
        if self.shared.heartbeat_interval.is_some() {
            self.beats = (0..self.agents.len()).collect();
        }
    }

    async fn beat(
        &self,
        channel: &Channel,
        place: usize,
        confirms: &mut Confirms,
    ) -> Result<(), SessionError> {
        let agent = &self.agents[place];
        let (batches, bytes) = self.outbox.of_agent(agent.number());
        let seconds = self.shared.heartbeat_interval.map_or(1, |interval| interval.as_secs());
        let parcel = agent.heartbeat(u32::try_from(seconds).unwrap_or(u32::MAX), batches, bytes);
        self.publish(channel, None, &parcel, confirms).await
    }

    /// The next message: one that is to be sent again, else a new one of an agent
    /// whose turn it is.
    fn next(&mut self, now: Instant) -> Next {
        if let Some((ticket, parcel)) = self.outbox.send() {
            return Next::Message(ticket, parcel);
        }
        let counters = &self.shared.counters;
        if counters.outstanding_bytes.load(Relaxed) > OUTSTANDING_BYTES {
            return Next::Wait(ROOM_INTERVAL);
        }
        if let Some(wait) = self.shared.pace.wait(now) {
            return Next::Wait(wait);
        }
        for _ in 0..self.busy.len() {
            let Some(place) = self.busy.pop_front() else { break };
            let agent = &mut self.agents[place];
            if self.outbox.of_agent(agent.number()).0 >= IN_FLIGHT_OF_AGENT {
                self.busy.push_back(place);
                continue;
            }
            let parcel = agent.next();
            self.is_busy[place] = false;
            self.note_busy(place);
            let Some(mut parcel) = parcel else { continue };
            if let Content::Batch(observations) = parcel.content {
                (parcel.body, parcel.compressed) = pack(parcel.body);
                self.shared.pace.spend(observations.total(), now);
            }
            add(&self.shared.counters.outstanding, 1);
            add(&self.shared.counters.outstanding_bytes, parcel.body.len() as u64);
            self.outbox.put(parcel);
            if let Some((ticket, parcel)) = self.outbox.send() {
                return Next::Message(ticket, parcel);
            }
        }
        Next::Nothing
    }

    /// Publishes, and has the confirm waited for.
    async fn publish(
        &self,
        channel: &Channel,
        ticket: Option<u64>,
        parcel: &Parcel,
        confirms: &mut Confirms,
    ) -> Result<(), SessionError> {
        let options = BasicPublishOptions { mandatory: ticket.is_some(), immediate: false };
        let publishing = channel.basic_publish(
            self.shared.topology.exchange().into(),
            parcel.routing_key().into(),
            options,
            &parcel.body,
            parcel.properties(),
        );
        let confirm = tokio::time::timeout(CONFIRM_DEADLINE, publishing)
            .await
            .map_err(|_| SessionError::Deadline)??;
        confirms.push(Box::pin(async move {
            let answer = match tokio::time::timeout(CONFIRM_DEADLINE, confirm).await {
                Ok(answer) => answer.map_err(SessionError::from),
                Err(_) => Err(SessionError::Deadline),
            };
            (ticket, answer)
        }));
        Ok(())
    }

    /// Takes note of the broker's answer; answers whether it has the message.
    fn settle(&mut self, ticket: Option<u64>, answer: Confirmation) -> bool {
        let counters = &self.shared.counters;
        let Some(ticket) = ticket else {
            add(&counters.heartbeats, u64::from(matches!(answer, Confirmation::Ack(_))));
            return true;
        };
        let trouble = match answer {
            Confirmation::Ack(None) => {
                if let Some(parcel) = self.outbox.confirm(ticket) {
                    add(&counters.confirmed, 1);
                    if let Content::Batch(observations) = parcel.content {
                        add(&counters.confirmed_observations, observations.total().into());
                    }
                    counters.outstanding.fetch_sub(1, Relaxed);
                    counters.outstanding_bytes.fetch_sub(parcel.body.len() as u64, Relaxed);
                }
                return true;
            }
            // An unroutable message is returned first, and then confirmed.
            Confirmation::Ack(Some(returned)) => {
                add(&counters.returned, 1);
                format!("no queue takes it: {} {}", returned.reply_code, returned.reply_text)
            }
            Confirmation::Nack(_) | Confirmation::NotRequested => {
                add(&counters.refused, 1);
                "the broker refused a batch: its queue is full or fails".to_owned()
            }
        };
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
        false
    }

    fn obey(&mut self, place: usize, command: AgentCommand) {
        if self.is_ending || self.obeyed.contains(&command.command_id) {
            return;
        }
        let agent = &mut self.agents[place];
        match command.command {
            // It always tells all that changes.
            Some(Command::Rescan(_)) => {}
            Some(Command::Resync(resync)) => agent.resync(&resync.kinds().collect::<Vec<_>>()),
            Some(Command::NewStream(_)) => agent.new_stream(),
            None => return,
        }
        self.note_busy(place);
        add(&self.shared.counters.commands, 1);
        if self.obeyed.len() == REMEMBERED {
            self.obeyed.pop_front();
        }
        self.obeyed.push_back(command.command_id);
    }
}

fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Relaxed);
}
