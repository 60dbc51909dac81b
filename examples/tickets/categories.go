package tickets

// category is a class with the fragments that make it.
type category struct {
	name     string
	weight   int // relative frequency: real queues are not balanced
	subjects []string
	cores    []string // say what it is about
	asks     []string // say what is wanted
	german   []string
}

// Categories lists the labels, as they are spelt in clean rows.
func Categories() []string {
	names := make([]string, len(categories))
	for i, c := range categories {
		names[i] = c.name
	}
	return names
}

var categories = []category{
	{
		name: "billing", weight: 17,
		subjects: []string{"[Charged twice|Double charge|Two charges] in {month}", "Question about [my invoice|{invoice}]", "Wrong amount", "[Card|Payment] declined", "[VAT|Tax] on my invoice", "Price [change|increase]?", "Unknown charge of {amount}", "Need a receipt"},
		cores: []string{
			"I was charged {amount} [twice|two times] for [the same month|{month}|order {order}|the {plan}].",
			"[My|The] [bank|credit card] statement shows {amount} from you, but my invoice says {amount}.",
			"The [invoice|bill] for {month} [is wrong|does not add up|lists the wrong company address|has no VAT number on it].",
			"My [card|credit card|payment] was declined although there is [enough|plenty of] money [on it|in the account].",
			"You [took|debited|deducted] {amount} [from my account|from my card|by PayPal] and I do not know what for.",
			"The price of the {plan} went up to {amount} [without notice|without any mail|overnight].",
			"I [need|am missing|never got] the [invoice|receipt] for {month} for my [tax return|bookkeeping|accountant].",
			"We [changed|switched] to the {plan} on {weekday} and still pay [the old price|for both plans|the full price].",
			"The [discount|voucher|coupon] code [was not applied|did not work at checkout|is missing on the invoice], so I paid {amount} too much.",
			"Why do I pay {amount} [a month|every month|per user] when the website says {amount}?",
			"I [updated|changed] my [card|payment method] but you keep charging the old one.",
			"There is a charge of {amount} dated {month} that I [never authorised|cannot explain|do not recognise].",
			"Our company needs [a proper invoice|an invoice with our tax number|invoices by mail], not just a [receipt|confirmation].",
			"The payment of {amount} [is still pending|shows as unpaid|got a reminder] although I [paid|transferred it] on {weekday}.",
			"I was billed for {n} users, but we are only {n}.",
		},
		asks: []string{"Please [refund|return|credit] the [difference|second charge|{amount}].", "Please [correct|resend|send] the [invoice|bill|receipt].", "Can you [explain|check] the [charge|amount]?", "Where does this amount come from?", "When do I get my money back?", "Please check my payments."},
		german: []string{
			"Ich habe für {month} zwei Rechnungen bekommen, über {amount} und {amount}. Bitte prüfen.",
			"Die Rechnung {invoice} enthält keine Mehrwertsteuer, ich brauche sie für das Finanzamt.",
			"Meine Karte wurde doppelt belastet, {amount} fehlen mir. Bitte zurücküberweisen, danke schön!",
		},
	},
	{
		name: "login", weight: 15,
		subjects: []string{"Can't [log in|sign in]", "[Password|Reset] mail [never arrives|missing]", "Locked out", "Two-factor code [wrong|not accepted]", "Account [locked|blocked]", "Lost my [phone|authenticator]", "Login [loop|fails]"},
		cores: []string{
			"I [cannot|can't|can not] [log in|sign in] [any more|since {weekday}|since the update|on my {device}].",
			"The password reset [mail|email|link] [never arrives|does not arrive|has expired when I click it|goes to my old address].",
			"It says [wrong password|invalid credentials|user not found], but I am [sure|certain|very sure] it is correct.",
			"My account [is locked|got locked|has been blocked] after {n} [attempts|tries].",
			"The [two-factor|2FA|verification|security] code is [not accepted|always wrong|never sent to my phone].",
			"I [lost|changed|broke] my phone and now I have no [authenticator|codes|second factor] to get into my account.",
			"I forgot my password and the [security question|username|old mail address] too.",
			"After entering my password the page [just reloads|goes back to the sign-in form|stays blank] in {browser}.",
			"Signing in with [Google|Apple|our company account] [fails|ends in an error|creates a new empty account].",
			"I am logged out [every day|every {n} minutes|again and again] and have to enter my password [each time|anew].",
			"My [son|colleague|ex] changed the password and now I am locked out of [my own account|the account].",
			"I no longer have access to the mail address that I [registered|signed up] with.",
			"The captcha [never ends|does not load|rejects me] when I try to [log in|sign in].",
			"My username [is not recognised|does not exist any more], although I used it [yesterday|on {weekday}].",
		},
		asks: []string{"Please [unlock|reset|restore] my [account|access|password].", "How do I get back in[to my account|]?", "Please send me a new [link|code|password].", "Can you turn off the [second factor|verification] for me?", "I need access [today|again]."},
		german: []string{
			"Ich komme nicht mehr in mein Konto, das Passwort wird nicht akzeptiert. Können Sie es zurücksetzen?",
			"Die E-Mail zum Zurücksetzen des Passworts kommt nicht an, auch nicht im Spam-Ordner.",
			"Mein Zugang ist nach {n} Versuchen gesperrt, bitte entsperren. Schöne Grüße aus {city}",
		},
	},
	{
		name: "shipping", weight: 16,
		subjects: []string{"Where is my [order|parcel|package]?", "Order {order} [not delivered|late]", "Delivery to the wrong address", "[Tracking|Tracking number] does not work", "Change delivery address", "Parcel [lost|stuck]", "Delivery time to {city}?"},
		cores: []string{
			"My [order|parcel|package] {order} [has not arrived|is still not here|never came|is {n} days late].",
			"The tracking [page|number|link] [has not changed|shows nothing|says 'in transit'] [for {n} days|since {weekday}].",
			"[Tracking|The status|The website] says delivered, but [nothing is here|I got nothing|there was no parcel at the door].",
			"{carrier} left the [parcel|box] [at the wrong address|with a neighbour I do not know|in the rain|at a depot in {city}].",
			"I [ordered|bought] a {product} {n} [days|weeks] ago and it still has not been [sent|shipped|dispatched].",
			"I moved to {city} and my order is going to the old address.",
			"Only [one|half] of the [two|{n}] parcels [arrived|was delivered], the {product} is missing.",
			"How long does delivery to {city} take[ at the moment|]? I need the {product} by {weekday}.",
			"{carrier} [tried to deliver|rang] on {weekday} when [nobody was home|I was at work], and [now it is gone|there was no card].",
			"I paid for express and the {product} [takes longer than standard|is {n} days late|was sent by normal post].",
			"The parcel is [stuck in customs|held at customs|waiting at the border] and they want {amount} from me.",
			"My order still says [processing|preparing|pending] [after {n} days|since {weekday}].",
			"Do you [deliver|ship] to [an office|a parcel locker|an island|{city}]? I want to order a {product}.",
			"The [house number|postcode|street] on my order {order} is wrong, it must be changed before it [leaves|goes out].",
		},
		asks: []string{"Where is it[ now|]?", "Please [check|ask] [with {carrier}|where it is].", "Please send it [again|to my new address|to the office].", "When will it [arrive|be here|be sent]?", "Can you change the [address|delivery date]?"},
		german: []string{
			"Meine Bestellung {order} ist seit {n} Tagen unterwegs, die Sendungsverfolgung ändert sich nicht. Wo ist das Paket?",
			"Der Bote hat das Päckchen beim falschen Nachbarn abgegeben. Könnten Sie das klären?",
			"Bitte die Lieferadresse ändern: ich wohne jetzt in {city}, nicht mehr in {city}.",
		},
	},
	{
		name: "bug", weight: 17,
		subjects: []string{"App [crashes|freezes]", "[Error|Error 50{n}] in the app", "Lamp [offline|not responding]", "Update broke [everything|my schedules]", "[Schedule|Timer] does not run", "Blank screen", "Wrong [time|colour] shown"},
		cores: []string{
			"The app [crashes|freezes|closes] [when I open it|as soon as I tap the {product}|after the update|on start] on my {device}.",
			"Since version {version} the {product} [flickers|shows as offline|does not react|loses the connection].",
			"I get [an error|error 50{n}|a white screen|'something went wrong'] when I [save a scene|open the settings|add a room|change the colour].",
			"The [schedule|timer|sunset routine] [does not run|runs an hour late|ran {n} times] [since {weekday}|since the update|lately].",
			"The [colour picker|brightness slider|scene list] [jumps back|is empty|does nothing] [in {browser}|on my {device}|in the new version].",
			"The {product} turns [on|off] by itself at {time}[, every night|].",
			"Notifications [arrive twice|come hours late|do not arrive at all] on my {device}.",
			"The app shows the wrong [room|temperature|time|status], it says off while the {product} is on.",
			"After the firmware update the {product} [blinks red|is dead|no longer pairs|hangs at {n} percent].",
			"The widget [is blank|disappeared|shows yesterday's state] after I updated to {version}.",
			"The website [is broken|does not load|throws an error] in {browser}, the [buttons|menus] do nothing.",
			"Voice control [stopped working|understands but nothing happens|switches the wrong lamp] [yesterday|on {weekday}|after the update].",
			"My [scenes|rooms|settings] [are gone|disappeared|were reset] after I [updated|restarted] the app.",
			"The app [eats|drains] my battery and the {device} gets [hot|slow].",
		},
		asks: []string{"Please fix [this|it].", "Is this a known [bug|problem|issue]?", "When is a fix coming?", "I can send [logs|screenshots|a video].", "It worked before the [last|latest] update.", "Can you reproduce it?"},
		german: []string{
			"Die App stürzt seit dem Update auf {version} ständig ab, auch nach einer Neuinstallation.",
			"Die Lampe flackert und wird als offline angezeigt, obwohl das WLAN läuft. Das ist ärgerlich!",
			"Der Zeitplan schaltet eine Stunde zu spät, seit {weekday}. Fehler in der neuen Version?",
		},
	},
	{
		name: "cancellation", weight: 11,
		subjects: []string{"Cancel my [subscription|plan|account]", "[Please|Want to] cancel", "Delete my account", "Stop the renewal", "Ending the {plan}", "Termination"},
		cores: []string{
			"I [want|would like|wish] to [cancel|end|terminate|stop] my [subscription|{plan}|membership|contract] [at the end of {month}|immediately|as soon as possible|].",
			"Please [close|delete|remove] my account and all [data|my data|devices] with it.",
			"I do not want the {plan} to renew [in {month}|next month|again|automatically].",
			"We [no longer use|stopped using|do not need] the {plan}[, the office is closing| any more|], so please end it.",
			"I [found|moved to|am switching to] another [provider|system|app] and want to [leave|quit|cancel].",
			"[How can I|Where do I|I want to] get out of the {plan} before it renews in {month}[?|.]",
			"The cancel button is [greyed out|missing|hidden], and I [want to|must] end my subscription [today|now].",
			"I cancelled [in {month}|on {weekday}|{n} weeks ago] and it is still [active|running].",
			"The trial ends on {weekday} and I do not want to keep it.",
			"My [mother|father|uncle] has died and the {plan} in [her|his] name should [end|be closed].",
			"It has become too expensive for me, please stop the {plan}[ after this month|].",
			"Please [confirm|accept] the cancellation of my {plan} [in writing|by mail|for {month}].",
		},
		asks: []string{"Please confirm[ the end date| that it has ended|].", "Do not renew it.", "What is the notice period?", "Please stop all further payments.", "I will not need it after {month}."},
		german: []string{
			"Hiermit kündige ich mein Abo zum nächstmöglichen Zeitpunkt. Bitte bestätigen Sie die Kündigung.",
			"Ich möchte mein Konto löschen und den Vertrag beenden, wir nutzen ihn nicht mehr.",
			"Bitte den {plan} nicht verlängern, ich höre im {month} auf. Viele Grüße",
		},
	},
	{
		name: "feature request", weight: 9,
		subjects: []string{"[Idea|Suggestion]: [dark mode|widgets|export]", "Feature request", "Please add [a widget|more colours|an export]", "Wish for the app", "Would be nice", "Support for [Matter|HomeKit|Linux]?"},
		cores: []string{
			"It would be [great|nice|lovely|very useful] if the app [had|could have|offered] [a dark mode|a calendar view|a tablet layout|more colours|a history].",
			"[Please add|Could you add|I wish there was] [a way|an option|a button] to [group lamps|export my data|share a room|copy a schedule|undo].",
			"Are there plans [for|to support] [Matter|Apple Watch|Linux|a public API|HomeKit|more languages]?",
			"I [miss|would love to see] [a widget|keyboard shortcuts|a sunrise mode|sorting|statistics] [in the app|for the {product}|in the next version].",
			"[My suggestion|An idea|A wish]: let the {product} [fade slowly|follow the music|react to the weather|blink at a call].",
			"[Other|Competing] apps can [show the power use|dim by percent|set holidays], [yours should too|why not yours|that would be good here].",
			"Could the {product} come in [black|warm white|a larger size|a battery version] [some day|one day|too]?",
			"It should be possible to [rename|sort|hide|lock] [rooms|lamps|scenes] [from the {device}|for guests|for children].",
			"We would [pay|gladly pay] more for [user roles|an audit log|single sign-on|an offline mode].",
			"Please [consider|think about] [a vacation mode|longer schedules|separate volume and light|notifications by mail].",
			"A [German|Turkish|Polish|Spanish] version of the app would help [my parents|us|many people] a lot.",
		},
		asks: []string{"Is that planned?", "Just an idea.", "That would make my day.", "I would vote for it.", "Please pass it on to the developers.", "Maybe in the next version?"},
		german: []string{
			"Es wäre schön, wenn die App einen Dunkelmodus hätte. Ist das geplant?",
			"Mein Vorschlag: Lampen in Gruppen schalten können, das fehlt mir für die Küche.",
			"Könnten Sie eine Exportfunktion einbauen? Das wäre großartig.",
		},
	},
	{
		name: "how-to", weight: 10,
		subjects: []string{"How do I [pair|reset|connect] the {product}?", "How to [share|rename|move] [a room|a lamp]", "Question about [schedules|scenes|setup]", "Setup help", "Where is the setting for [time zone|language]?", "New [phone|router], what now?"},
		cores: []string{
			"How do I [connect|pair|add] [the|my] {product} [to the Hub|to my {device}|to a new router|with voice control]?",
			"Where [can I|do I] [find|change|set] the [time zone|language|default brightness|name of a room] [in the app|]?",
			"I [just got|unpacked|bought] the {product} and [do not know how to|would like to know how to|am not sure how to] [set it up|start|mount it].",
			"What do I have to do to [share the lamp with my family|give a guest access|move it to another room|use it without the app]?",
			"Is there a [guide|video|manual] [for|on] [setting up|resetting|mounting] the {product}?",
			"How can I make the {product} [turn on at sunset|dim slowly|stay on when I am at home|switch off at {time}]?",
			"I have a new [router|phone|Wi-Fi name]. How do I [move|transfer|reconnect] my lamps[ without losing my scenes|]?",
			"Can I use [two Hubs|the {product} outdoors|a normal wall switch|5 GHz Wi-Fi], and if so, how?",
			"Which [button|setting] [resets|restarts] the {product} [to factory settings|completely]?",
			"What does the [blue|orange|slowly blinking] light on the {product} mean?",
			"How many [lamps|scenes|users] [can I|may I] [add|have|connect] [to one Hub|per room]?",
			"Can you [explain|tell me] [step by step|in simple words] how [schedules|groups|scenes] work?",
		},
		asks: []string{"Could you explain it[ step by step|]?", "Where do I find that?", "I am a beginner, so simple words please.", "Is there a short guide?", "Which menu is it in?"},
		german: []string{
			"Wie verbinde ich die Lampe mit einem neuen Router? Ich finde die Einstellung nicht.",
			"Wo kann ich die Sprache auf Deutsch umstellen? Schönen Dank für Ihre Mühe.",
			"Wie setze ich den {product} auf Werkseinstellungen zurück? Gibt es dafür eine Anleitung?",
		},
	},
	{
		name: "returns", weight: 11,
		subjects: []string{"Return [order|] {order}", "[Broken|Damaged|Cracked] {product}", "Wrong [item|colour] received", "Exchange [please|possible?]", "Warranty claim", "Return label", "Refund for returned item?"},
		cores: []string{
			"The {product} arrived [broken|cracked|scratched|with a bent plug|with a torn box] and I want [a new one|to return it|a replacement].",
			"I [got|received|was sent] the wrong [colour|size|item]: I ordered a {product} and there is a {product} in the box.",
			"I would like to [return|send back|give back] the {product}, it [does not fit|is too dark|is not what I expected|was a double gift].",
			"The return [label|form] [is missing|does not print|has the wrong name on it].",
			"I sent the {product} back [{n} days|{n} weeks] ago and [still have no refund|heard nothing|do not see the money].",
			"Can I [exchange|swap] the {product} for [a larger one|another colour|a {product}]?",
			"The {product} stopped [working|glowing] after {n} months, is that [covered|a warranty case|under warranty]?",
			"A [screw|cable|power supply|remote] was missing in the box of the {product}.",
			"How many days do I have to [return|send back] [an opened|a used|an unused] {product}?",
			"The glass of the {product} [is cracked|broke when I unpacked it|has a chip], see the photo.",
			"I [changed my mind|ordered too many] and have {n} unopened [bulbs|lamps|kits] to send back.",
			"The replacement {product} you sent is [faulty|broken|damaged] as well.",
		},
		asks: []string{"Please send [a return label|a replacement|a new one].", "How do I send it back?", "Do I have to pay the postage?", "I want [an exchange|my money back for it].", "Is that covered by the warranty?"},
		german: []string{
			"Die Lampe kam beschädigt an, das Glas hat einen Sprung. Ich möchte sie zurückschicken.",
			"Ich habe die falsche Größe bekommen und möchte umtauschen. Wie läuft die Rückgabe?",
			"Ist das ein Garantiefall? Der {product} leuchtet nach {n} Monaten nicht mehr.",
		},
	},
}
