//! Questions and answers between the daemon and its monitor: packets on a pair of Unix sockets (unix(7),
//! SOCK_SEQPACKET). Each begins with the question's number, so that a late answer is not taken for the
//! answer to the next question.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, recv,
    sendmsg, socketpair,
};

/// The most bytes of a message: some paths of PATH_MAX, and what is beside them.
const MAX_MESSAGE: usize = 64 << 10;

const NUMBER: usize = size_of::<u32>();

/// The end that asks. One thread asks at a time, and the others wait.
#[derive(Debug)]
pub struct Channel {
    asks: Mutex<Asks>,
    timeout: Option<Duration>,
}

#[derive(Debug)]
struct Asks {
    socket: OwnedFd,
    /// The last question's.
    number: u32,
}

impl Channel {
    /// A channel, and the end that answers. A thread waits for other threads' questions and for the answer
    /// as long as `timeout` each, or without a limit.
    ///
    /// # Errors
    /// Those of socketpair(2).
    pub fn new(timeout: Option<Duration>) -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        let (socket, answers) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        for direction in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&socket, direction, timeout)?;
        }
        Ok((Self { asks: Mutex::new(Asks { socket, number: 0 }), timeout }, answers))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// EPIPE or ECONNRESET when the other end is closed; EAGAIN when the answer takes too long; EMSGSIZE.
    pub fn ask(&self, question: &[u8]) -> io::Result<Vec<u8>> {
        let mut asks = match self.timeout {
            Some(timeout) => self.asks.try_lock_for(timeout).ok_or(Errno::AGAIN)?,
            None => self.asks.lock(),
        };
        asks.number = asks.number.wrapping_add(1);
        let number = asks.number.to_ne_bytes();
        send(asks.socket.as_fd(), number, question)?;
        loop {
            let (answered, answer) = receive(asks.socket.as_fd())?.ok_or(Errno::PIPE)?;
            if answered == number {
                return Ok(answer);
            }
        }
    }
}

/// Answers each question until the other end is closed. Several threads may share a socket.
///
/// # Errors
/// Those of recv(2) and sendmsg(2).
pub fn answer_all(
    socket: BorrowedFd<'_>,
    mut answer: impl FnMut(&[u8]) -> Vec<u8>,
) -> io::Result<()> {
    while let Some((number, question)) = receive(socket)? {
        send(socket, number, &answer(&question))?;
    }
    Ok(())
}

fn send(socket: BorrowedFd<'_>, number: [u8; NUMBER], bytes: &[u8]) -> io::Result<()> {
    if NUMBER + bytes.len() > MAX_MESSAGE {
        return Err(Errno::MSGSIZE.into());
    }
    let parts = [IoSlice::new(&number), IoSlice::new(bytes)];
    loop {
        let mut control = SendAncillaryBuffer::default();
        match sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return Ok(sent.map(drop)?),
        }
    }
}

/// The next message; `None` at the end.
fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<([u8; NUMBER], Vec<u8>)>> {
    let mut bytes = Vec::with_capacity(MAX_MESSAGE);
    let len = loop {
        // The length is that of the message, whatever was cut off of it.
        match recv(socket, spare_capacity(&mut bytes), RecvFlags::TRUNC) {
            Err(Errno::INTR) => {}
            received => break received?.1,
        }
    };
    match bytes.split_first_chunk() {
        _ if len == 0 => Ok(None),
        Some((number, rest)) if len == bytes.len() => Ok(Some((*number, rest.to_vec()))),
        _ => Err(Errno::MSGSIZE.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_question_is_answered_and_the_end_is_noticed_on_both_sides() {
        let (channel, answers) = Channel::new(None).unwrap();
        let served = std::thread::spawn(move || {
            answer_all(answers.as_fd(), |question| question.iter().rev().copied().collect())
        });
        assert_eq!(channel.ask(b"abc").unwrap(), b"cba");
        assert_eq!(channel.ask(b"").unwrap(), b"");
        let long: Vec<u8> = (0..MAX_MESSAGE - NUMBER).map(|at| at as u8).collect();
        assert!(channel.ask(&long).unwrap().into_iter().rev().eq(long.iter().copied()));
        channel.ask(&vec![0; MAX_MESSAGE]).unwrap_err();
        drop(channel);
        served.join().unwrap().unwrap();
        let (channel, answers) = Channel::new(None).unwrap();
        drop(answers);
        channel.ask(b"abc").unwrap_err();
    }

    #[test]
    fn a_message_that_was_cut_is_an_error() {
        let (channel, answers) = Channel::new(None).unwrap();
        let socket = channel.asks.into_inner().socket;
        rustix::net::send(&socket, &vec![0; MAX_MESSAGE + 1], SendFlags::empty()).unwrap();
        assert_eq!(receive(answers.as_fd()).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
    }

    #[test]
    fn an_answer_that_is_late_answers_no_other_question() {
        let (channel, answers) = Channel::new(Some(Duration::from_millis(50))).unwrap();
        let (go_on, goes_on) = mpsc::channel();
        let served = std::thread::spawn(move || {
            answer_all(answers.as_fd(), |question| {
                if question == b"late" {
                    goes_on.recv().unwrap();
                }
                question.to_vec()
            })
        });
        let error = channel.ask(b"late").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        go_on.send(()).unwrap();
        // On a busy machine the thread that answers may not come to it in time.
        let answer = (0..100).find_map(|_| channel.ask(b"next").ok());
        assert_eq!(answer.as_deref(), Some(b"next".as_slice()));
        drop(channel);
        served.join().unwrap().unwrap();
    }
}
