// Live transcripts from the microphone of an iPhone or iPad, over Trilane's `WS /api/audio`. Swift 5.9, iOS 16.
//
//     let voice = TrilaneVoice(url: URL(string: "wss://gateway.example/api/audio")!) { try await signIn.token() }
//     try await voice.start()
//     for await event in voice.events { show(event) }  // ends after `stop()`, or with `.failed`
//
// Every sample has a number and is kept until the gateway has settled it. A connection that is lost is made anew with
// `session` and `cursor`, and the gateway, in whichever process, says from which sample on it wants to hear.
// The app needs NSMicrophoneUsageDescription, and the background mode `audio` to listen while it is not in front.

import AVFoundation
import UIKit

public actor TrilaneVoice {
    public enum Event: Sendable {
        /// `paused`: the system has the microphone, as in a call; `full`: five minutes wait to be sent, and no more is
        /// recorded until some of them are. Both pass by themselves.
        case connecting, listening, reconnecting, paused, full, finished
        case partial(segment: Int, text: String, stable: String)
        case final(segment: Int, text: String, start: Double, end: Double)
        case gap(start: Double, end: Double, reason: String)  // this was not heard, and will not be
        case lag(seconds: Double)
        case failed(code: Int, reason: String)  // for good: not allowed, taken over, unknown to the gateway
    }

    public nonisolated let events: AsyncStream<Event>
    private static let rate = 16_000, cut = 1006
    private let url: URL
    private let token: @Sendable () async throws -> String
    private let microphone = Microphone()
    private let report: AsyncStream<Event>.Continuation
    private var recording: Task<Void, Never>?
    private var kept = Data()  // 16-bit samples; `first` is the number of the first of them
    private var first = 0, sent = 0
    private var last: Int { first + kept.count / 2 }
    private var session: String?, cursor: String?, settledTo = 0.0
    private var isReady = false, isStopping = false, saidStop = false, isDone = false, isFull = false
    private var readyFrom = 0, readyAt = ContinuousClock.now, heardAt = ContinuousClock.now, heardWhenSent = 0
    private var failures = 0, reason = ""

    /// `token` is asked before each connection; anything will do where the gateway has no sign-in.
    public init(url: URL, token: @escaping @Sendable () async throws -> String) {
        (self.url, self.token) = (url, token)
        (events, report) = AsyncStream.makeStream(of: Event.self)
    }

    /// Asks for the microphone and begins; once. Throws when it is refused or cannot be started.
    public func start() async throws {
        let (sounds, feed) = AsyncStream.makeStream(of: Sound.self)
        try await microphone.start(feed)
        recording = Task { for await sound in sounds { record(sound) } }  // in the order in which it came
        Task { await run() }
    }

    /// No more is recorded; `events` ends when the gateway has heard what was.
    public func stop() async {
        await microphone.stop()
        await recording?.value
        isStopping = true
    }

    private func record(_ sound: Sound) {
        guard case .frame(let frame) = sound else {
            report.yield(sound == .paused ? .paused : isReady ? .listening : .reconnecting)
            return
        }
        if kept.count > 2 * Self.rate * (isFull ? 290 : 300) {
            if !isFull { report.yield(.full) }
            isFull = true
            return
        }
        if isFull { kept.append(Data(count: 2 * Self.rate)) }  // a second of silence: the sentence before it is over
        isFull = false
        kept.append(frame)
    }

    private func next() -> Data? {
        // The gateway closes a connection that brings 60 s more than real time.
        let allowedS = 50 + readyAt.duration(to: .now) / Duration.seconds(1)
        let until = min(last, sent + Self.rate, readyFrom + Int(allowedS * Double(Self.rate)))
        guard sent < until else { return nil }
        defer { sent = until }
        return kept.subdata(in: 2 * (sent - first)..<2 * (until - first))
    }

    private func run() async {
        while !isDone {
            report.yield(session == nil ? .connecting : .reconnecting)
            let code = await converse()
            if !isDone, code == 1000 || code == 1008 || (4500...4999).contains(code) {
                await microphone.stop()
                report.yield(.failed(code: code, reason: reason))
                return report.finish()
            }
            failures += 1
            let mostS = code == 1013 ? 8 : min(8, 0.25 * pow(2, Double(min(failures, 6))))
            if !isDone { try? await Task.sleep(for: .seconds(Double.random(in: mostS / 2...mostS))) }
        }
        report.yield(.finished)
        report.finish()
    }

    /// One connection, to its end; returns its close code.
    private func converse() async -> Int {
        var request = URLRequest(url: url)
        request.setValue("trilane.audio.v1", forHTTPHeaderField: "Sec-WebSocket-Protocol")
        guard let bearer = try? await token() else { return Self.cut }
        request.setValue("Bearer \(bearer)", forHTTPHeaderField: "Authorization")
        let socket = URLSession.shared.webSocketTask(with: request)
        socket.resume()
        let sender = Task { await send(on: socket) }
        do {
            let start = try JSONEncoder().encode(Start(session: session, cursor: cursor))
            try await socket.send(.string(String(decoding: start, as: UTF8.self)))
            while true {
                if case .string(let text) = try await socket.receive() { take(text) }
            }
        } catch {
            isReady = false
            sender.cancel()
            let code = socket.closeCode.rawValue  // 0: no close came, it was cut
            let status = (socket.response as? HTTPURLResponse)?.statusCode
            socket.cancel(with: .goingAway, reason: nil)
            await sender.value  // what it still sends must not count on the next connection
            return status == 401 || status == 403 ? 1008 : code == 0 ? Self.cut : code
        }
    }

    private func send(on socket: URLSessionWebSocketTask) async {
        do {
            while !Task.isCancelled {
                while isReady, !Task.isCancelled, let samples = next() { try await socket.send(.data(samples)) }
                if isReady, isStopping, !saidStop, sent == last {
                    saidStop = true
                    try await socket.send(.string(#"{"type":"stop"}"#))
                }
                // A gateway that hears something says something every 5 s; a dead network says nothing, for minutes.
                let silence = heardAt.duration(to: .now)
                if isReady, silence > .seconds(20), sent - heardWhenSent > 10 * Self.rate { break }
                try await Task.sleep(for: .milliseconds(50))
            }
        } catch {}
        if !Task.isCancelled { socket.cancel(with: .goingAway, reason: nil) }  // and `receive` fails with it
    }

    private func take(_ text: String) {
        guard let said = try? JSONDecoder().decode(Message.self, from: Data(text.utf8)) else { return }
        let (start, end) = (said.start ?? 0, said.end ?? 0)
        switch said.type {
        case "ready":
            session = said.session
            cursor = cursor ?? said.cursor
            sent = min(max(first, said.resumeFrom ?? 0), last)
            (readyFrom, readyAt, failures, isReady, saidStop) = (sent, .now, 0, true, false)
            report.yield(.listening)
        case "partial":
            report.yield(.partial(segment: said.segment ?? 0, text: said.text ?? "", stable: said.stable ?? ""))
        case "final" where end > settledTo:
            (cursor, settledTo) = (said.cursor ?? cursor, end)
            report.yield(.final(segment: said.segment ?? 0, text: said.text ?? "", start: start, end: end))
        case "gap" where end > settledTo:
            settledTo = end
            report.yield(.gap(start: start, end: end, reason: said.reason ?? ""))
        case "ack":
            let settled = min(max(first, said.samples ?? 0), sent)
            kept = kept.subdata(in: 2 * (settled - first)..<kept.count)
            first = settled
        case "lag": report.yield(.lag(seconds: said.seconds ?? 0))
        case "error": reason = said.message ?? ""
        case "done": isDone = true
        default: break  // `drain`: the gateway finishes what it can and closes with 1012; the next connection goes on
        }
        (heardAt, heardWhenSent) = (.now, sent)
    }
}

private struct Start: Encodable {
    let type = "start", encoding = "pcm_s16le", sampleRate = 16_000, channels = 1
    let session: String?, cursor: String?
}

private struct Message: Decodable {
    let type: String
    let session, cursor, text, stable, reason, message: String?
    let resumeFrom, samples, segment: Int?
    let start, end, seconds: Double?
}

enum Sound: Sendable, Equatable { case frame(Data), paused, resumed }
typealias Sounds = AsyncStream<Sound>.Continuation

/// The device's microphone as 16-bit samples at 16 kHz, through calls, headsets and whatever else stops an engine.
@MainActor
final class Microphone {
    struct Unavailable: Error {}
    private var engine = AVAudioEngine()
    private var heard: Sounds?
    private var watching: [Task<Void, Never>] = []

    nonisolated init() {}

    func start(_ heard: Sounds) async throws {
        let isAllowed = await withCheckedContinuation { (answer: CheckedContinuation<Bool, Never>) in
            AVAudioSession.sharedInstance().requestRecordPermission { answer.resume(returning: $0) }
        }
        guard isAllowed else { throw Unavailable() }
        self.heard = heard
        try begin()
        watch(AVAudioSession.interruptionNotification) { one, notification in
            let type = notification.userInfo?[AVAudioSessionInterruptionTypeKey] as? UInt
            if type == AVAudioSession.InterruptionType.began.rawValue { heard.yield(.paused) } else { one.again() }
        }
        // Another route (a headset) may have another format: then the engine has stopped, and wants a new tap.
        let reset = AVAudioSession.mediaServicesWereResetNotification
        let stops = [Notification.Name.AVAudioEngineConfigurationChange, reset]
        for name in stops + [UIApplication.didBecomeActiveNotification] {
            watch(name) { one, _ in if !one.engine.isRunning { one.again() } }
        }
    }

    func stop() {
        watching.forEach { $0.cancel() }
        engine.inputNode.removeTap(onBus: 0)
        engine.stop()
        heard?.finish()
        heard = nil
        try? AVAudioSession.sharedInstance().setActive(false, options: .notifyOthersOnDeactivation)
    }

    private func begin() throws {
        guard let heard else { return }
        let session = AVAudioSession.sharedInstance()
        try session.setCategory(.playAndRecord, mode: .default, options: [.allowBluetooth, .defaultToSpeaker])
        try session.setActive(true)
        let input = engine.inputNode
        let format = input.outputFormat(forBus: 0)
        guard format.sampleRate > 0, format.channelCount > 0 else { throw Unavailable() }
        let size = AVAudioFrameCount(format.sampleRate / 10)
        input.installTap(onBus: 0, bufferSize: size, format: format, block: try Self.tap(format, heard))
        engine.prepare()
        try engine.start()
    }

    private func again() {
        engine.stop()
        engine = AVAudioEngine()  // one that was stopped by the system may keep its old format
        do {
            try begin()
            heard?.yield(.resumed)
        } catch {
            heard?.yield(.paused)  // it is tried again when the app comes to the front, or the route changes
        }
    }

    private func watch(_ name: Notification.Name, _ act: @escaping @MainActor (Microphone, Notification) -> Void) {
        watching.append(Task { [weak self] in
            for await notification in NotificationCenter.default.notifications(named: name) {
                if let self { act(self, notification) }
            }
        })
    }

    /// Runs in the audio thread, so it belongs to no actor. One converter for all buffers: it remembers those before.
    private nonisolated static func tap(_ format: AVAudioFormat, _ heard: Sounds) throws -> AVAudioNodeTapBlock {
        let wanted = AVAudioFormat(commonFormat: .pcmFormatInt16, sampleRate: 16_000, channels: 1, interleaved: true)
        guard let wanted, let converter = AVAudioConverter(from: format, to: wanted) else { throw Unavailable() }
        converter.downmix = true
        return { buffer, _ in
            let room = AVAudioFrameCount(Double(buffer.frameLength) * wanted.sampleRate / format.sampleRate) + 64
            guard let out = AVAudioPCMBuffer(pcmFormat: wanted, frameCapacity: room) else { return }
            var isGiven = false
            _ = converter.convert(to: out, error: nil) { _, status in
                status.pointee = isGiven ? .noDataNow : .haveData
                defer { isGiven = true }
                return isGiven ? nil : buffer
            }
            guard out.frameLength > 0, let samples = out.int16ChannelData else { return }
            heard.yield(.frame(Data(buffer: UnsafeBufferPointer(start: samples[0], count: Int(out.frameLength)))))
        }
    }
}
