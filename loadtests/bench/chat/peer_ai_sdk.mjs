// The AI SDK on Node's own HTTP server, as its documentation has it: streamText, piped into the answer.
//
//   OPENAI_BASE_URL=http://127.0.0.1:9000/v1 node peer_ai_sdk.mjs PORT
//
// It speaks to `useChat` what Trilane's /api/chat speaks, and leaves the upstream when its reader leaves. It keeps
// nothing: no resume, no second reader, and a stop only by hanging up.
import { createServer } from 'node:http'
import { json } from 'node:stream/consumers'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { convertToModelMessages, pipeUIMessageStreamToResponse, streamText, toUIMessageStream } from 'ai'

const provider = createOpenAICompatible({ name: 'upstream', baseURL: process.env.OPENAI_BASE_URL })

async function chat(request, response) {
  const { messages } = await json(request)
  const left = new AbortController()
  response.on('close', () => left.abort())
  const { stream } = streamText({
    model: provider.chatModel('bench'),
    messages: await convertToModelMessages(messages),
    abortSignal: left.signal,
  })
  await pipeUIMessageStreamToResponse({ response, stream: toUIMessageStream({ stream }) })
}

createServer((request, response) => {
  if (request.url === '/api/chat') chat(request, response).catch((error) => response.destroy(error))
  else response.writeHead(request.url === '/readyz' ? 200 : 404).end()
}).listen(Number(process.argv[2]), '127.0.0.1', 4096)
